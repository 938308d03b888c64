# To be sourced: virtual environments with packages from PyPI, kept in the user's cache.
# shellcheck shell=bash
environments=${XDG_CACHE_HOME:-$HOME/.cache}/orchd-tests

# put_into FOLDER PACKAGE…: by uv, which takes a tenth of pip's time; by pip where it cannot be had, or does not reach the index
# that pip is configured for.
put_into() {
  local folder=$1
  shift
  if [ -x "$folder/bin/uv" ] || "$folder/bin/pip" install -q uv; then
    UV_FIND_LINKS=${UV_FIND_LINKS-${PIP_FIND_LINKS-}} SSL_CERT_FILE=${SSL_CERT_FILE-${PIP_CERT-}} \
      "$folder/bin/uv" pip install -q --compile-bytecode --python "$folder/bin/python" "$@" && return
  fi
  "$folder/bin/pip" install -q "$@"
}

# environment NAME PYTHON PACKAGE… [-- PACKAGE…]: prints its folder; nothing where PyPI, or that Python, is not in reach. What is
# behind `--` may be missing in it. Other packages, another Python or another month make another one; where a new one cannot be
# had, the one of a month before will do.
environment() {
  local name=$1 python=$2 key folder found needed=() wanted=()
  shift 2
  key=$(printf '%s\n' "$("$python" -V 2>&1)" "$@" | sha256sum | cut -c1-8)
  while [ $# -gt 0 ] && [ "$1" != -- ]; do needed+=("$1") && shift; done
  wanted=("${@:2}")
  folder=$environments/$name-$key-$(date +%Y-%m)
  mkdir -p "$environments"
  (
    flock 9
    [ ! -e "$folder/ready" ] || exit 0
    rm -rf "$folder"
    if "$python" -m venv "$folder" && put_into "$folder" "${needed[@]}"; then
      [ ${#wanted[@]} = 0 ] || put_into "$folder" "${wanted[@]}" || true
      touch "$folder/ready"
    else
      rm -rf "$folder"
    fi
  ) 9>"$environments/$name.lock" >/dev/null 2>&1 || true
  for found in "$environments/$name-$key"-*/ready; do
    [ ! -e "$found" ] || folder=${found%/ready}
  done
  if [ -e "$folder/ready" ]; then echo "$folder"; fi
}
