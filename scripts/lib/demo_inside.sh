#!/bin/bash
# Prepares a server with payonce in the work directory, and lets demo_story.sh tell its story there.
# Started by scripts/demo.
set -euo pipefail

# shellcheck source=scripts/lib/inside.sh
. "$(dirname "${BASH_SOURCE[0]}")/inside.sh"
# shellcheck source=scripts/lib/gateways.sh
. "$source_dir/scripts/lib/gateways.sh"
# shellcheck source=scripts/lib/demo_story.sh
. "$source_dir/scripts/lib/demo_story.sh"

build_payonce
stage server "starting PostgreSQL" start_server "shared_preload_libraries = 'payonce'"
tell_story
