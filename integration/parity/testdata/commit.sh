# commit, and what it leaves in history, inspect, images and rmi.
quiet docker load -i box.tar
quiet docker create --name c1 test/box:1 sh -c 'echo hi'
printf new > new; docker cp new c1:/etc/new
docker commit c1
docker images
docker commit c1 made:1
docker commit -m 'some words' -a 'Ann <ann@example.com>' c1 made:2
docker inspect -f '{{.Comment}}|{{.Author}}|{{.Architecture}} {{.Os}}|{{len .RootFS.Layers}}|{{json .RepoTags}}|{{.Parent}}' made:2
docker inspect -f '{{json .Config}}' made:2
docker history made:2
docker history --no-trunc --format '{{.CreatedBy}}|{{.Comment}}|{{.Size}}' made:2
docker commit -c 'CMD ["x"]' -c 'ENV A=b' -c 'LABEL a=b' -c 'EXPOSE 80' -c 'USER ann' -c 'WORKDIR /w' -c 'VOLUME /v' -c 'ENTRYPOINT ["y"]' -c 'ONBUILD RUN z' c1 made:3
docker inspect -f '{{json .Config}}' made:3
docker commit -c 'CMD sh' c1 made:4
docker inspect -f '{{json .Config.Cmd}} {{json .Config.Entrypoint}}' made:4
docker commit -p=false c1 made:5
docker commit --pause c1 made:6
docker images | sort
# nothing changed
quiet docker create --name c2 test/box:1
docker commit c2 same:1
docker history same:1
docker inspect -f '{{len .RootFS.Layers}}' same:1
# errors
docker commit nothing x
docker commit c1 UPPER
docker commit c1 'a b'
docker commit c1 a@sha256:0123456789012345678901234567890123456789012345678901234567890123
docker commit -c 'RUN x' c1 bad
docker commit -c 'FROB x' c1 bad
docker commit -c 'ENV' c1 bad
docker images bad
~mounted-folder docker commit
~mounted-folder docker commit a b c
~mounted-folder docker commit --frob c1
~mounted-folder docker container commit
# children
docker rmi test/box:1
docker rmi -f $(docker images -q made:2)
docker rmi made:1 made:2 made:3
docker images | sort
