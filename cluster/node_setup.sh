#!/usr/bin/env bash
# What every node runs once, before Ray: a virtual environment in ~/svgan-venv with the dependencies that
# constraints.txt pins (not svgan itself, which comes with each job), and a shell that knows it.
# --postgresql: its binaries too, for MLflow on the head, where ~/gap.py and `python -m sweeps` find the synced package.
# Run again it does only what is missing.
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$HOME/svgan-venv
sudo=$([ "$(id -u)" = 0 ] || echo sudo)

packages() {
    $sudo apt-get -q -o DPkg::Lock::Timeout=600 update
    DEBIAN_FRONTEND=noninteractive $sudo apt-get -q -y -o DPkg::Lock::Timeout=600 install --no-install-recommends "$@"
}

touch ~/.bashrc
if ! grep -q svgan-venv ~/.bashrc; then
    # At the top: Ubuntu's own .bashrc ends early in a shell that nobody types into.
    {
        echo "[ ! -f ~/.svgan_env ] || . ~/.svgan_env"
        echo "export PATH=$venv/bin:\$PATH"
        cat ~/.bashrc
    } > ~/.bashrc.svgan
    mv ~/.bashrc.svgan ~/.bashrc
fi

if [ "${1:-}" = --postgresql ] && ! compgen -G '/usr/lib/postgresql/*/bin/initdb' > /dev/null; then
    # MLflow's server starts its own, reachable through a socket of this user alone; Debian's would listen on a port.
    $sudo mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' | $sudo tee /etc/postgresql-common/createcluster.conf > /dev/null
    packages postgresql
fi

wanted=$(cat "$repo/pyproject.toml" "$repo/constraints.txt" | sha256sum)
if [ "$(cat ~/.svgan_ready 2> /dev/null)" != "$wanted" ]; then
    [ -x "$venv/bin/pip" ] || python3 -m venv "$venv" || { packages python3-venv && python3 -m venv "$venv"; }
    "$venv/bin/python" "$repo/cluster/requirements.py" > ~/.svgan_requirements
    "$venv/bin/pip" install -q --disable-pip-version-check -c "$repo/constraints.txt" -r ~/.svgan_requirements
    echo "$wanted" > ~/.svgan_ready
fi

if [ "${1:-}" = --postgresql ]; then
    echo "$repo" > "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/svgan-repo.pth"
fi
