# Sources environment.d files as dib-run-parts does, and prints what they export after a marker.
#   $1     the marker, which no text of a file can have: it begins with NUL
#   $2...  the files, in order
# Source: diskimage-builder, lib/dib-run-parts.
set -eu -o pipefail
# Fragments set variables of this shell: a short name such as `result` could be one of theirs.
_plywood_marker=$1
shift
# The output of fragments goes into one stream with their trace, so that the order of both is kept. bash picks the descriptor:
# a fixed number could be one that a fragment uses itself (`exec 9>file`).
exec {_plywood_result}>&1 1>&2
for fragment in "$@"; do
  echo "dib-run-parts Sourcing environment file $fragment"
  set -x
  source "$fragment"
  { set +x; } 2>/dev/null
done
printf '\0%s\0' "$_plywood_marker" >&"$_plywood_result"
exec env -0 >&"$_plywood_result"
