# import: sources, changes, message, platform, errors.
docker import rootfs.tar imp:1
docker images
docker import - imp:2 < rootfs.tar
cat rootfs.tar | docker import - imp:3
docker import rootfs.tar
docker images -f dangling=true
docker import rootfs.tar imp
docker history imp:1
docker inspect -f '{{.Os}} {{.Architecture}}|{{.Comment}}|{{.Author}}|{{.Parent}}|{{json .RepoTags}}|{{.RootFS.Type}} {{len .RootFS.Layers}}' imp:1
docker inspect -f '{{json .Config}}' imp:1
docker import -m 'some words' -c 'CMD ["/bin/sh", "-c", "true"]' -c 'ENV A=b C="d e"' -c 'LABEL k=v l="m n"' -c 'EXPOSE 80 443/udp' -c 'USER ann' -c 'WORKDIR /home' -c 'VOLUME /data' -c 'ENTRYPOINT ["/bin/echo"]' -c 'ONBUILD RUN x' rootfs.tar imp:c
docker inspect -f '{{json .Config}}' imp:c
docker inspect -f '{{.Comment}}' imp:c
docker history imp:c
docker import -c 'CMD echo a b' -c 'ENTRYPOINT sh x' -c 'ENV x y z' -c 'WORKDIR rel' -c 'WORKDIR more' -c 'HEALTHCHECK --interval=5s CMD true' rootfs.tar imp:d
docker inspect -f '{{json .Config}}' imp:d
docker import --change 'cmd x' --message m rootfs.tar imp:e
docker inspect -f '{{json .Config.Cmd}} {{.Comment}}' imp:e
# compressed
gzip -k rootfs.tar; xz -k rootfs.tar; bzip2 -k rootfs.tar; zstd -q rootfs.tar
docker import rootfs.tar.gz z:gz
docker import rootfs.tar.xz z:xz
docker import rootfs.tar.bz2 z:bz2
~symlink-size docker inspect -f '{{.RootFS.Layers}} {{.Size}}' z:gz
~symlink-size docker inspect -f '{{.RootFS.Layers}} {{.Size}}' z:xz
~symlink-size docker inspect -f '{{.RootFS.Layers}} {{.Size}}' z:bz2
# changes that are none
docker import -c 'RUN x' rootfs.tar bad
docker import -c 'COPY a b' rootfs.tar bad
docker import -c 'FROM x' rootfs.tar bad
docker import -c 'FROB x' rootfs.tar bad
docker import -c 'CMD' rootfs.tar bad
docker import -c 'ENV' rootfs.tar bad
docker import -c 'ENV a' rootfs.tar bad
docker import -c 'EXPOSE x' rootfs.tar bad
docker import -c 'EXPOSE 80/frob' rootfs.tar bad
docker import -c 'LABEL' rootfs.tar bad
docker import -c 'USER' rootfs.tar bad
docker import -c 'USER a b' rootfs.tar bad
docker import -c 'WORKDIR' rootfs.tar bad
~change-signal docker import -c 'STOPSIGNAL FROB' rootfs.tar bad
docker import -c 'ONBUILD FROM x' rootfs.tar bad
docker import -c 'ONBUILD ONBUILD x' rootfs.tar bad
docker import -c 'ONBUILD' rootfs.tar bad
docker import -c 'HEALTHCHECK' rootfs.tar bad
docker import -c 'HEALTHCHECK FROB' rootfs.tar bad
docker import -c '' rootfs.tar bad
docker import -c 'CMD ["a' rootfs.tar bad
docker images bad
# names
docker import rootfs.tar UPPER
docker import rootfs.tar 'a b'
docker import rootfs.tar a:b:c
docker import rootfs.tar a@sha256:0123456789012345678901234567890123456789012345678901234567890123
docker import rootfs.tar ''
docker import rootfs.tar localhost:5000/x/y:z
# sources
docker import nothing.tar
docker import nothing.tar bad
~import-folder mkdir folder; docker import folder bad
~import-bad-tar echo garbage > garbage; docker import garbage bad
~import-bad-tar head -c 100000 rootfs.tar > cut.tar; docker import cut.tar bad
docker import http://127.0.0.1:1/x.tar bad
docker import http:// bad
docker images bad
# platform
docker import --platform linux/amd64 rootfs.tar p:1
docker inspect -f '{{.Os}} {{.Architecture}}' p:1
docker import --platform frob/frob/frob/frob rootfs.tar p:2
# errors of the command line
docker import
docker import a b c
docker import --frob a
docker image import
docker import -c
docker import rootfs.tar later:1 -m words
docker inspect -f '{{.Comment}}' later:1
# what makes an image on one side only
~change-stopsignal docker import -c 'STOPSIGNAL SIGINT' rootfs.tar imp:f
~import-zstd docker import rootfs.tar.zst z:zst
~import-empty docker import - bad < /dev/null
~import-empty : > empty; docker import empty bad
docker import $FILES/rootfs.tar url:1
docker history --format '{{.Comment}}' url:1
docker import $FILES/nothing.tar url:2
docker import -m words $FILES/rootfs.tar url:3
docker history --format '{{.Comment}}' url:3
