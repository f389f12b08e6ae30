#!/bin/sh
# Signs the files of a release with an SSH key, or verifies them.
#   deploy/sign.sh FOLDER KEY                         writes SHA256SUMS and SHA256SUMS.sig there
#   deploy/sign.sh FOLDER --verify SIGNERS IDENTITY   SIGNERS: lines of "IDENTITY ssh-ed25519 AAAA…"
set -eu
cd "$1"
if [ "$2" = --verify ]; then
  ssh-keygen -Y verify -f "$3" -I "$4" -n feedback-site -s SHA256SUMS.sig < SHA256SUMS
  exec sha256sum --check --strict --quiet SHA256SUMS
fi
rm -f SHA256SUMS SHA256SUMS.sig
sha256sum -- * > ../SHA256SUMS.new
mv ../SHA256SUMS.new SHA256SUMS
ssh-keygen -Y sign -f "$2" -n feedback-site SHA256SUMS
