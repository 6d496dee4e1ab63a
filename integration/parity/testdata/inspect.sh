# inspect, image inspect: fields, formats, kinds, errors.
quiet docker load -i base.tar
quiet docker load -i chain.tar
quiet docker load -i box.tar
~old-fields,graph-driver docker inspect test/base:1
~old-fields,graph-driver,symlink-size docker image inspect test/chain:1 test/box:1
docker inspect test/base:1 -f '{{.Id}}'
docker inspect -f '{{.ID}}' test/base:1
docker inspect -f '{{json .Config}}' test/chain:1
docker inspect -f '{{json .RootFS}}' test/chain:1
docker inspect -f '{{.Architecture}} {{.Os}} {{.Size}} {{.Created}} {{.Author}} {{.Comment}}' test/chain:1
docker inspect -f '{{.RepoTags}} {{.RepoDigests}} {{.Parent}}' test/chain:1
docker inspect -f '{{index .RepoTags 0}}' test/chain:1
docker inspect -f '{{range .Config.Env}}{{println .}}{{end}}' test/chain:1
docker inspect -f '{{.Config.WorkingDir}} {{.Config.User}}|{{.Config.Labels.kind}}' test/chain:1
docker inspect -f '{{len .RootFS.Layers}}' test/chain:1
docker inspect -f '{{.Config.Cmd}}' test/box:1
docker inspect -f '{{join .Config.Cmd " "}}' test/box:1
~old-fields,graph-driver docker inspect -f json test/base:1
~old-fields,graph-driver docker image inspect -f json test/base:1
docker inspect -f '{{.Frob}}' test/base:1
docker image inspect -f '{{.Frob}}' test/base:1
docker inspect -f '{{.Config.Frob}}' test/base:1
docker inspect -f '{{' test/base:1
docker inspect -f '{{frob}}' test/base:1
docker inspect nothing
~twice-missing docker image inspect nothing
docker inspect nothing test/base:1 neither -f '{{.Id}}'
~twice-missing docker image inspect nothing test/base:1 neither -f '{{.Id}}'
docker inspect -f '{{.Id}}' nothing
~twice-missing docker inspect --type image nothing
docker inspect --type image test/base:1 -f '{{.Id}}'
docker inspect --type container nothing
docker inspect --type container test/base:1
~inspect-kinds docker inspect --type frob test/base:1
~inspect-kinds docker inspect --type '' test/base:1 -f '{{.Id}}'
docker inspect -s test/base:1 -f '{{.Id}}'
docker inspect -s --type image test/base:1 -f '{{.Id}}'
docker inspect --type=image -f '{{.Id}}' $(docker images -q test/box:1) $(docker images -q --no-trunc test/box:1) $(docker images -q --no-trunc test/box:1 | cut -c8-15)
~twice-missing,reference-case docker image inspect UPPER
docker inspect UPPER
docker inspect ''
~empty-name docker image inspect ''
docker inspect
docker image inspect
docker inspect --frob x
docker image inspect --frob x
docker inspect test/base
