// Verifies bundles with sigstore's own JavaScript library: node sigstore_verify.cjs <modules> <public key> <bundle>...
const [modules, keyFile, ...bundles] = process.argv.slice(2);
const { createRequire } = require("node:module");
const crypto = require("node:crypto");
const fs = require("node:fs");
const load = createRequire(modules + "/");
const { bundleFromJSON } = load("@sigstore/bundle");
const { Verifier, toSignedEntity } = load("@sigstore/verify");

const publicKey = crypto.createPublicKey(fs.readFileSync(keyFile));
const hint = crypto
  .createHash("sha256")
  .update(publicKey.export({ type: "spki", format: "der" }))
  .digest("base64");
const material = {
  certificateAuthorities: [],
  timestampAuthorities: [],
  tlogs: [],
  ctlogs: [],
  publicKey: (wanted) => {
    if (wanted !== hint) throw new Error("unknown key " + wanted);
    return { publicKey, validFor: () => true };
  },
};
const verifier = new Verifier(material, { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 0 });
for (const name of bundles) {
  verifier.verify(toSignedEntity(bundleFromJSON(JSON.parse(fs.readFileSync(name, "utf8")))));
}
