# Builds, checks and demonstrates plywood. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := build

CARGO ?= cargo
BINARY ?= target/release/plywood
PREFIX ?= /usr/local
DESTDIR ?=
# Man pages and completions, in the layout of PREFIX/share.
SHARE = $(dir $(BINARY))share

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## Install the Debian packages for building, testing and the demo (Debian 12; as root)
	@scripts/install-dependencies

.PHONY: toolchain
toolchain:
	@[[ -n $$(type -P $(CARGO)) ]] || { printf '%s\n' "make: '$(CARGO)' is not on the PATH: install Rust with rustup. sudo has a PATH of its own: sudo env PATH=\"\$$PATH\" make ..." >&2; exit 1; }

# Links the C library statically, so that the binary runs on systems with an older or another C
# library. Nothing else differs from a build by cargo.
.PHONY: build
build: BUILD ?= --release
build: toolchain ## Build target/release/plywood, its man pages and completions
	$(CARGO) rustc --locked --bin plywood $(BUILD) -- -C target-feature=+crt-static
	@$(MAKE) --no-print-directory pages

# Removes old pages by name, because the `share` beside BINARY may have files of other programs.
.PHONY: pages
pages: ## Write the man pages and completions of the built binary, below target
	rm -f $(SHARE)/man/man1/plywood*.1
	$(BINARY) manual $(SHARE)/man/man1
	install -d $(SHARE)/bash-completion/completions $(SHARE)/zsh/site-functions $(SHARE)/fish/vendor_completions.d
	$(BINARY) completions bash >$(SHARE)/bash-completion/completions/plywood
	$(BINARY) completions zsh >$(SHARE)/zsh/site-functions/_plywood
	$(BINARY) completions fish >$(SHARE)/fish/vendor_completions.d/plywood.fish

.PHONY: check
check: toolchain ## Format, lints, doc comments, dependency rules (by cargo-deny from crates.io), shell scripts
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --lib
	scripts/check-dependencies
	scripts/check-shell

.PHONY: test-unit
test-unit: ## Run the tests that need neither root nor other programs
	$(CARGO) test --locked

.PHONY: test
test: deps check ## Install packages, then run every check and every test (as root)
	@# Tests wait for mirrors and guests: there is one more at once than there are cores.
	RUST_TEST_THREADS=$$(($$(nproc) + 1)) $(CARGO) test --locked --no-fail-fast --features system-tests

.PHONY: docs
docs: ## Write the reference pages and schemas from the types
	PLYWOOD_UPDATE_DOCS=1 $(CARGO) test --locked --test reference

.PHONY: book
book: ## Build the pages of docs/ as a book, target/book/index.html (needs mdBook)
	@[[ -n $$(type -P mdbook) ]] || { echo "make: cannot build the book: 'mdbook' is not installed; run 'cargo install --locked mdbook', or get a release of mdBook" >&2; exit 1; }
	mdbook build

.PHONY: bench
bench: deps ## Run the benchmarks
	$(CARGO) bench --locked

.PHONY: demo
demo: deps build ## Build examples/contrail-builder, boot its disk, run its container
	scripts/demo

# Does not depend on `build`: root would compile with another toolchain, and leave files that you
# cannot replace.
.PHONY: install
install: ## Install what `make build` built, below PREFIX (/usr/local), staged below DESTDIR
	@[[ -x $(BINARY) && -d $(SHARE) ]] || { echo "make: cannot install: '$(BINARY)' is not there; run 'make build' first, without sudo" >&2; exit 1; }
	install -D -m 0755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/plywood
	for name in disk-image-create ramdisk-image-create diskimage-builder element-info; do \
	    ln -sf plywood $(DESTDIR)$(PREFIX)/bin/$$name; \
	done
	install -d $(DESTDIR)$(PREFIX)/share/plywood
	cp -R --no-preserve=ownership elements layers $(DESTDIR)$(PREFIX)/share/plywood/
	cp -R --no-preserve=ownership $(SHARE)/. $(DESTDIR)$(PREFIX)/share/

.PHONY: clean
clean: ## Remove the build results; stores of layers stay
	$(CARGO) clean
