#!/usr/bin/env bash
# Makes the repository `roman-numerals` from the files beside this script. Needs bash and git, and no network.
#
#   create_new_repo.sh <target_root> <repo_name> [python_version]
#
# The repository's own tests run in it with: python3 -m unittest -v
set -euo pipefail

if [ $# -lt 2 ]; then
  echo "use: create_new_repo.sh <target_root> <repo_name> [python_version]" >&2
  exit 64
fi
target_root=$1
repo_name=$2
python_version=${3:-3.11}
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
repo=$target_root/$repo_name

# The pattern takes digits and dots only, so that the version cannot become anything else in pyproject.toml.
if [[ ! $python_version =~ ^[0-9]+(\.[0-9]+)*$ ]]; then
  echo "python_version must be a number like 3.11, not $python_version" >&2
  exit 65
fi
if [ -e "$repo" ]; then
  echo "$repo exists already; choose another name" >&2
  exit 73
fi

echo "Copying the project to $repo"
mkdir -p -- "$repo"
cp -R -- "$here/project/." "$repo/"
sed "s/@PYTHON_VERSION@/$python_version/" "$here/project/pyproject.toml" > "$repo/pyproject.toml"

echo "Making the first commit"
cd -- "$repo"
git init --quiet --initial-branch=main
git add --all
git -c user.name="${GIT_AUTHOR_NAME:-Corporation}" -c user.email="${GIT_AUTHOR_EMAIL:-corporation@localhost}" \
  commit --quiet --message="Roman numerals, both ways"
git log --oneline --stat

echo "Repo ready: $repo"
