# Sources environment.d files as dib-run-parts does, and prints what they export after a marker.
#   $1     the marker, which no text of a file can have: it begins with NUL
#   $2...  the files, in order
# Source: diskimage-builder, lib/dib-run-parts.
set -eu -o pipefail
marker=$1
shift
# What fragments print comes in one stream with their trace, in the order in which they print it.
exec {result}>&1 1>&2
for fragment in "$@"; do
  echo "dib-run-parts Sourcing environment file $fragment"
  set -x
  source "$fragment"
  { set +x; } 2>/dev/null
done
printf '\0%s\0' "$marker" >&$result
exec env -0 >&$result
