# The tasks that are not PGXS's.

help:
	@echo 'make               build the extension for the server of PG_CONFIG'
	@echo 'make install       install it there'
	@echo 'make installcheck  pg_regress and isolation specs against a running server that has it'
	@echo 'make unit          GoogleTest suites of core and net'
	@echo 'make lint          format, dependency rule, clang-tidy, cppcheck'
	@echo 'make format        reformat the C++ sources'
	@echo 'make demo          the two-phone story on a scratch server (scripts/demo)'
	@echo 'make test          every suite on scratch servers (scripts/test)'
	@echo 'make fuzz          half a minute of fuzzing for each parser of foreign bytes (scripts/fuzz)'
	@echo 'make mutants       breaks one rule at a time, and shows who notices (scripts/mutants)'
	@echo 'make sanitize      suites with sanitizers in core, net and the module (scripts/sanitize)'
	@echo 'make asserts       suites on a PostgreSQL with assertions, and under valgrind (scripts/asserts)'
	@echo 'make chaos         a minute of everything failing at once, and its judge (scripts/chaos);'
	@echo '                   SECONDS=... and SEED=... for another one'
	@echo 'make simulate      10 million schedules of the decisions in a model world (scripts/simulate);'
	@echo '                   SCHEDULES=... and SEED=... for others'
	@echo 'make bench         callbacks and dispatch beside their peers, in 20 to 25 minutes (scripts/bench)'

demo:
	scripts/demo

test:
	scripts/test

fuzz:
	scripts/fuzz

mutants:
	scripts/mutants

sanitize:
	scripts/sanitize

asserts:
	scripts/asserts

chaos:
	scripts/chaos $(or $(SECONDS),60) $(SEED)

simulate:
	scripts/simulate $(or $(SCHEDULES),10000000) $(SEED)

bench:
	scripts/bench

unit:
	cmake -S . -B build -DCMAKE_BUILD_TYPE=RelWithDebInfo
	cmake --build build -j 2
	ctest --test-dir build --output-on-failure

lint:
	scripts/lint

format:
	clang-format -i $(shell git ls-files -co --exclude-standard '*.h' '*.cpp')

.PHONY: help demo test fuzz mutants sanitize asserts chaos simulate bench unit lint format clean-dependencies
