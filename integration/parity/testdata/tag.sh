# tag: names, digests, errors of the client and of the daemon.
quiet docker load -i base.tar
quiet docker load -i chain.tar
docker tag test/base:1 one
docker tag test/base:1 one:two
docker tag one localhost:5000/a/b/c:d
docker tag $(docker images -q one:two) byid
docker tag $(docker images -q --no-trunc one:two) byfullid:x
docker image tag one alias
docker inspect -f '{{range .RepoTags}}{{println .}}{{end}}' one | sort
# moving a tag
docker tag test/chain:1 one:two
docker inspect -f '{{.Id}}' one:two
docker images one:two
# bad names
docker tag one UPPER
docker tag UPPER one
docker tag nothing x
docker tag nothing:1 x
docker tag test/base:nothing x
docker tag 0123456789ab x
docker tag one a/b/UPPER:1
docker tag one 'a b'
docker tag one ''
docker tag '' one
docker tag one a:b:c
docker tag one x:-bad
docker tag one x:$(printf 'a%.0s' $(seq 129))
docker tag one $(printf 'a%.0s' $(seq 256))
docker tag one a@sha256:0123456789012345678901234567890123456789012345678901234567890123
docker tag one a@sha256:0123
docker tag one 0123456789012345678901234567890123456789012345678901234567890123
docker tag one sha256:abc
docker tag one sha256
docker tag one -x
docker tag one --frob
docker tag one
docker tag
docker tag one two three
docker tag one http://x/y
docker tag one x/
docker tag one /x
docker tag one x//y
docker tag one x_-y
docker tag one x..y
docker tag one docker.io/library/full:1
docker tag one index.docker.io/full:2
docker tag one docker.io/full:3
docker images full | sort
docker tag one UP.example/x:1
docker tag one under_score/x__y:1_2.3-4
docker tag one localhost/x
docker tag one host:80/x
~ipv6-host docker tag one '[::1]:5000/x'
docker images --format '{{.Repository}}:{{.Tag}} {{.ID}}' | grep -v :: | sort
