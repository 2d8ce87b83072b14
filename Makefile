# Everything that a fresh Debian 12 machine (root, Python 3.11) needs is installed from here; each command says what it does.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
PYTHON ?= /usr/bin/python3
BIN := $(VENV)/bin
REQUEST ?= Build me a hardened server with SSH, Docker, and monitoring.

HOST_PACKAGES := python3-venv apt gpgv bubblewrap e2fsprogs openssh-client openssl qemu-system-x86 qemu-utils ovmf seabios \
	ipxe-qemu
# What the tests look at results with; a build takes its tools from its own locked build root.
TEST_PACKAGES := cryptsetup-bin docker-registry dosfstools fdisk grub-pc-bin iproute2 jq mmdebstrap mtools openssh-server openssl \
	ostree procps softhsm2 squashfs-tools strace uidmap xz-utils zstd

.PHONY: help setup demo test test-full bench lint clean

help:
	@echo "make demo       set up, then build, boot, test and sign an image from one sentence"
	@echo "make test       set up, then lint, type-check and run the test suite"
	@echo "make test-full  the same with the checks that take longer"
	@echo "make bench      measure (minutes); writes bench/results/latest.json"

setup: $(VENV)/.host $(VENV)/.installed

define install_missing
	@missing=""; for p in $(1); do \
	    dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
	    echo "installing Debian packages:$$missing"; \
	    export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1; \
	    apt-get update -q; \
	    apt-get install -q -y --no-install-recommends $$missing; \
	fi
	@mkdir -p $(VENV) && touch $@
endef

$(VENV)/.host: Makefile
	$(call install_missing,$(HOST_PACKAGES))

# Tests start servers of their own; the package's own must not run, neither now nor after the next boot.
$(VENV)/.test-host: Makefile
	@dpkg-query -W -f '$${Status}' openssh-server 2>/dev/null | grep -q 'ok installed' || \
	    { mkdir -p /etc/systemd/system && ln -sn /dev/null /etc/systemd/system/ssh.service; } 2>/dev/null || true
	$(call install_missing,$(TEST_PACKAGES))

$(VENV)/.installed: $(VENV)/.host requirements/dev.txt pyproject.toml
	@echo "installing Python packages into $(VENV), pinned by hash"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup
	$(BIN)/kiln build "$(REQUEST)"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check src tests
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint $(VENV)/.test-host
	$(BIN)/pytest -m "not full"

test-full: lint $(VENV)/.test-host
	$(BIN)/pytest

bench: setup
	$(BIN)/python -m bench

clean:
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
