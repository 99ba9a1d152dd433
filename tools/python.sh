# Sourced by the front doors: sets the environment up and runs a module in it. Relative paths stay the caller's.
# usage: run MODULE [ARGUMENT...]
run() {
    local root
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    "$root/tools/setup.sh"
    exec "$root/.venv/bin/python" -m "$@"
}
