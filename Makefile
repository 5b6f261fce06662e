# The front door. Each target installs what it needs and skips what is there.

.PHONY: help demo check test bench clients fuzz advisories

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

demo: ## two memcacheds kept equal, to watch; ARGS=--once ends by itself
	tests/demo $(ARGS)

check: ## format, lints and docs as errors, dependency policy
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked
	.ci/deny

test: ## every test: ours, memcached's own, client libraries, a short fuzz run
	tests/setup
	cargo test --workspace --locked --no-fail-fast
	tests/suites/run
	protocol/fuzz/run 20

clients: ## the client libraries that take longer to install
	tests/suites/clients

bench: ## against direct memcached and twemproxy, side by side
	bench/run $(ARGS)

fuzz: ## ten minutes for each target
	protocol/fuzz/run 600

advisories: ## known flaws of dependencies; needs a network
	.ci/deny advisories
