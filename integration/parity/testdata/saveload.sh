# save and load: files and pipes, names, what replaces what, what is no archive.
docker save
docker save --frob a
~save-missing docker save nothing
~save-missing docker save -o nothing.tar nothing; ls nothing.tar 2>/dev/null
~save-missing docker save nothing:1
~save-missing docker save 0123456789ab
~reference-case docker save UPPER
docker load a
docker load --frob
docker load -i nothing.tar
~no-archive docker load </dev/null
docker load -i base.tar
docker load -i base.tar
docker load -q -i chain.tar
docker image load --quiet --input chain.tar
docker load <box.tar
cat box.tar | docker load -q
docker images -q | sort -u | wc -l
# compressed
gzip -k base.tar && docker load -i base.tar.gz
xz -k base.tar && docker load -i base.tar.xz
bzip2 -k base.tar && docker load <base.tar.bz2
# what is saved
docker save test/base:1 >one.tar; stat -c %A one.tar | cut -c2-4
docker save -o two.tar test/base:1 test/chain:1; stat -c %a two.tar
docker image save --output three.tar test/chain; stat -c %a three.tar
docker save -o /nowhere/x.tar test/base:1
docker save -o . test/base:1
docker save -o /dev/null test/base:1
~save-missing docker save test/base:1 nothing >x.tar; wc -c <x.tar
quiet docker rmi -f $(docker images -q | sort -u)
docker load -i one.tar
set -o pipefail; docker load -i two.tar | sort
quiet docker rmi -f $(docker images -q | sort -u)
docker load <three.tar
docker images --format '{{.Repository}}:{{.Tag}}'
# by ID: without a name
docker save $(docker images -q test/chain:1) >id.tar
quiet docker rmi -f $(docker images -q | sort -u)
docker load -i id.tar
docker images
docker load -i three.tar
quiet docker rmi -f $(docker images -q | sort -u)
# a name that another image had
docker load -i base.tar
quiet docker tag test/base:1 test/chain:1
docker load -i chain.tar
docker load -q -i chain.tar
docker images -a --format '{{.Repository}}:{{.Tag}}' | sort
# by digest, several of one repository
docker save test/chain:1 test/chain:2 test/base | tar t | grep -c manifest.json
docker save test/chain:1 | tar xO manifest.json | grep -o '"RepoTags":\[[^]]*\]'
docker save test/chain | tar xO manifest.json | grep -o '"RepoTags":\[[^]]*\]'
docker save test/chain | tar xO repositories | grep -o '"test/chain":{"1"'
# what is no archive
~no-archive echo garbage >garbage; docker load -i garbage
~no-archive head -c 3000 base.tar >half.tar; docker load -i half.tar
~no-archive docker load -i rootfs.tar
~no-archive mkdir -p folder; docker load -i folder
