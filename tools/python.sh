# Sourced by the scripts beside it. Sets up the environment and runs a module in it, in the caller's folder.
# usage: run MODULE [ARGUMENT...]
run() {
    local root
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    "$root/tools/setup.sh"
    exec "$root/.venv/bin/python" -m "$@"
}
