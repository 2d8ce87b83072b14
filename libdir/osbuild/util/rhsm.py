"""Subscriptions of Red Hat systems: which certificates a repository wants (Python 3.6)."""

import configparser
import contextlib
import glob
import os
import re

REPOSITORIES = "/etc/yum.repos.d/redhat.repo"
ENTITLEMENTS = "/etc/pki/entitlement"
CONSUMER = "/etc/pki/consumer"
CA_CERT = "/etc/rhsm/ca/redhat-uep.pem"


class Subscriptions:
    """Certificates by the base URLs of a repository file."""

    DEFAULT_SSL_CA_CERT = CA_CERT

    def __init__(self, repositories):
        self.repositories = repositories
        self.secrets = None

    @classmethod
    def from_host_system(cls):
        """Read this system's. Raises RuntimeError where it has none."""
        result = cls(None)
        with contextlib.suppress(RuntimeError):
            result.get_fallback_rhsm_secrets()
        with contextlib.suppress(FileNotFoundError), open(REPOSITORIES, encoding="utf-8") as file:
            result = cls.parse_repo_file(file)
            with contextlib.suppress(RuntimeError):
                result.get_fallback_rhsm_secrets()
        if not result.repositories and not result.secrets:
            raise RuntimeError("this system has no subscriptions")
        return result

    @classmethod
    def parse_repo_file(cls, fp):
        """Read an open repository file."""
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_file(fp)
        found = {}
        for name in parser.sections():
            section = parser[name]
            url = section.get("baseurl", "").replace("$releasever", "[^/]*").replace("$basearch", "[^/]*")
            found[name] = {
                "matchurl": url,
                "sslcacert": section.get("sslcacert"),
                "sslclientkey": section.get("sslclientkey"),
                "sslclientcert": section.get("sslclientcert"),
            }
        return cls(found)

    @staticmethod
    def get_consumer_secrets():
        """Return the paths of the system's own certificate."""
        key, cert = os.path.join(CONSUMER, "key.pem"), os.path.join(CONSUMER, "cert.pem")
        if not os.path.exists(key) or not os.path.exists(cert):
            raise RuntimeError("this system has no consumer certificate")
        return {"consumer_key": key, "consumer_cert": cert}

    def get_fallback_rhsm_secrets(self):
        """Take the first entitlement for all repositories."""
        for key in sorted(glob.glob(os.path.join(ENTITLEMENTS, "*-key.pem"))):
            cert = key[: -len("-key.pem")] + ".pem"
            if os.path.exists(cert):
                self.secrets = {"ssl_ca_cert": CA_CERT, "ssl_client_key": key, "ssl_client_cert": cert}
                return
        raise RuntimeError("this system has no entitlement")

    def get_secrets(self, urls):
        """Return the paths of the certificates for a URL, or for the first of several that has some."""
        for url in [urls] if isinstance(urls, str) else urls:
            for entry in (self.repositories or {}).values():
                if entry["matchurl"] and re.match(entry["matchurl"], url):
                    return {
                        "ssl_ca_cert": entry["sslcacert"],
                        "ssl_client_key": entry["sslclientkey"],
                        "ssl_client_cert": entry["sslclientcert"],
                    }
        if self.secrets:
            return self.secrets
        raise RuntimeError("there is no subscription for %s" % (urls,))
