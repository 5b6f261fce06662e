# The front door. Each target installs what it needs and skips what is there.

.PHONY: help demo check test api sim bench clients chaos faults figures fuzz advisories

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

demo: ## control and two memcacheds kept equal, to watch; ARGS=--once ends by itself
	tests/demo $(ARGS)

check: ## format, lints and docs as errors, dependency policy
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo clippy -p memcloud-proxy --features simulation --test sites --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked
	.ci/deny

test: ## every test: ours, memcached's own, client libraries, a short fuzz run
	tests/setup
	cargo test --workspace --locked --no-fail-fast
	cargo test -p memcloud-proxy --features simulation --test sites --locked
	tests/suites/run
	tests/suites/api
	protocol/fuzz/run 20

clients: ## the client libraries that take longer to install
	tests/suites/clients

api: ## the API of control asked by schemathesis, for longer: EXAMPLES=500
	tests/setup
	tests/suites/api $(or $(EXAMPLES),200)

SEEDS = 2000
sim: ## whole proxies on a virtual network, thousands of runs: SEEDS=5000
	SIMULATION_SEEDS=$(SEEDS) cargo test -p memcloud-proxy --features simulation --profile sim --test sites --locked -- --nocapture

bench: ## against direct memcached and twemproxy, side by side
	bench/run $(ARGS)

chaos: ## everything fails while everybody writes; MINUTES=60 SEED=7
	tests/setup
	MEMCLOUD_CHAOS_SECONDS=$$(( $(or $(MINUTES),10) * 60 )) MEMCLOUD_SEED=$(SEED) \
		cargo test -p memcloud-tests --locked --no-fail-fast --test chaos -- --include-ignored --nocapture

faults: ## plays every fault and writes the table in docs/faults.md
	tests/setup
	MEMCLOUD_FAULTS_WRITE=1 cargo test -p memcloud-tests --locked --test faults -- --include-ignored --nocapture

figures: ## what recovery and lookups cost: a copy of a million items, a proxy killed amid writes, DNS beside knot
	tests/setup figures
	cargo test -p memcloud-tests --locked --release --test figures --test zone_figures -- --ignored --nocapture --test-threads 1

fuzz: ## ten minutes for each target
	protocol/fuzz/run 600

advisories: ## known flaws of dependencies; needs a network
	.ci/deny advisories
