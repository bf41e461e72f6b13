#!/bin/bash
# curl: for each server one process, so that connections are kept alive; the number of connections is printed too.
set -u
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
letters() { head -c "$1" < <(while printf abcdefghijklmnopqrstuvwxyz; do :; done 2>/dev/null); }
letters 100 > "$dir/100"
letters 50000 > "$dir/50000"
letters 200000 > "$dir/200000"
for arg in "$@"; do
  name=${arg%%=*} url=${arg#*=}
  args=()
  ask() { # operation path options...
    local op=$1 path=$2
    shift 2
    [ ${#args[@]} -gt 0 ] && args+=(--next)
    args+=(-sS -m 15 -o "$dir/$op" -w "$op %{http_code} %{size_download} %{content_type} connects=%{num_connects}\n" "$@" "$url$path")
  }
  ask small-1 /small
  ask small-2 /small
  ask small-3 /small
  ask head /small -I
  ask missing /missing
  ask post-small /echo --data-binary "@$dir/100"
  ask post-large /echo --data-binary "@$dir/200000"
  ask post-chunked /echo --data-binary "@$dir/50000" -H 'Transfer-Encoding: chunked'
  ask chunked /chunked
  ask large /large
  ask small-4 /small
  curl "${args[@]}" | while read -r op status size rest; do
    if [ "$op" = head ]; then size=0 sha1=-; else sha1=$(sha1sum < "$dir/$op" | cut -d' ' -f1); fi
    echo "$name $op $status $size $sha1 $rest"
  done
done
