#!/bin/sh
# Makes a bare Debian 12/13 or Ubuntu 24.04 (x86-64, arm64) ready to build Kinora: system packages,
# Rust, Node. Installs only what is missing, and says what it does.
#
#   tools/setup.sh build     what the command line, the engine and the UI need
#   tools/setup.sh bench     and what the reference library's environment needs
#   tools/setup.sh desktop   and what the window needs
#   tools/setup.sh test      and what the browser and window tests need
set -eu

level=${1:-build}
min_node=20
min_rust=1.95

cd "$(dirname "$0")/.."

say() { if [ -t 2 ]; then printf '\033[1m%s\033[0m\n' "$*" >&2; else printf '%s\n' "$*" >&2; fi; }
has() { command -v "$1" >/dev/null 2>&1; }

# --- system packages ------------------------------------------------------------------------------

packages="build-essential pkg-config curl ca-certificates git python3"
# FFmpeg writes and reads clips; its bindings are made from these headers by libclang.
packages="$packages libavcodec-dev libavformat-dev libavutil-dev libswresample-dev libswscale-dev libclang-dev"
case $level in
  build) ;;
  bench) packages="$packages python3-venv" ;;
  # The window plays clips through GStreamer; its decoders of H.264 and AAC are in libav.
  desktop) packages="$packages libwebkit2gtk-4.1-dev librsvg2-dev gstreamer1.0-libav" ;;
  test) packages="$packages libwebkit2gtk-4.1-dev librsvg2-dev gstreamer1.0-libav xvfb webkit2gtk-driver dbus imagemagick python3-xlib chromium chromium-driver ffmpeg" ;;
  *) echo "usage: tools/setup.sh build|bench|desktop|test" >&2; exit 2 ;;
esac
# Ubuntu ships its browser as a snap; there the tests take the one that the machine has.
if [ -r /etc/os-release ] && grep -q '^ID=ubuntu' /etc/os-release; then
  packages=$(printf '%s' "$packages" | sed 's/chromium chromium-driver/chromium-browser/')
fi
has node || has npm || packages="$packages nodejs npm"

if has dpkg-query && has apt-get; then
  missing=""
  for package in $packages; do
    [ "$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null)" = "install ok installed" ] || missing="$missing $package"
  done
  if [ -n "$missing" ]; then
    say "Installing system packages:$missing"
    sudo=""
    if [ "$(id -u)" != 0 ]; then
      has sudo || { echo "These packages are missing, and there is no sudo to install them with:$missing" >&2; exit 1; }
      sudo=sudo
    fi
    $sudo apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
  fi
else
  say "This is not a Debian or Ubuntu system. Have these packages' counterparts installed: $packages"
fi

# --- Rust -----------------------------------------------------------------------------------------

PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
if ! has cargo; then
  say "Installing Rust"
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c clippy -c rustfmt
fi
rust=$(rustc --version | cut -d' ' -f2)
if [ "$(printf '%s\n%s\n' "$min_rust" "$rust" | sort -V | head -n1)" != "$min_rust" ]; then
  has rustup || { echo "Kinora needs Rust $min_rust or newer; this is $rust." >&2; exit 1; }
  say "Updating Rust $rust"
  rustup update stable
  rustup default stable
fi

# --- Node -----------------------------------------------------------------------------------------
# Debian 12's and Ubuntu 24.04's are too old; npm carries newer ones as a package.

node_major() { node --version 2>/dev/null | sed 's/^v\([0-9]*\).*/\1/'; }
if [ "$(node_major || echo 0)" -lt "$min_node" ] 2>/dev/null || ! has node; then
  if [ ! -x .toolchain/node_modules/node/bin/node ]; then
    say "Installing Node 22 into .toolchain"
    npm install --loglevel=error --no-fund --no-audit --prefix .toolchain node@22 npm@11
  fi
fi

# --- UI packages ----------------------------------------------------------------------------------

if [ ! -f ui/node_modules/.package-lock.json ] || [ ui/package-lock.json -nt ui/node_modules/.package-lock.json ]; then
  say "Installing UI packages"
  PATH=$PWD/.toolchain/node_modules/node/bin:$PWD/.toolchain/node_modules/.bin:$PATH
  (cd ui && npm ci --no-fund --no-audit --loglevel=error)
  touch ui/node_modules/.package-lock.json
fi
