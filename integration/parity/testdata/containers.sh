# run, create, ps, start, stop, kill, wait, rm, rename, logs: the life of containers.
quiet docker load -i box.tar
docker run --network none
docker run --zzz test/box:1
~run-prefix,oci-runtime docker run --network none --name x1 test/box:1 nosuchcmd
~run-prefix,oci-runtime docker run --network none --rm test/box:1 /etc/passwd
docker run --network none --rm test/box:1 echo hi
docker run --network none --rm test/box:1 sh -c 'echo out; echo err >&2; exit 3'
docker ps -a
docker ps -aq | wc -l
docker run --network none -d --name one test/box:1 sleep 1000
docker ps
~run-prefix docker run --network none -d --name one test/box:1 sleep 1000
~run-prefix docker run --network none --name 'a b' test/box:1 true
docker run --network none -it test/box:1 cat </dev/null
docker run -a stdin -d test/box:1 true
~run-prefix docker run --rm --network none -v a:b:c:d test/box:1 true
~run-prefix docker run --rm --network none -v rel/a:/b test/box:1 true
~run-prefix docker run --rm --network none --mount type=bind,source=/nosuch/b,target=/b test/box:1 true
~run-prefix docker run --rm --network none --memory 1 test/box:1 true
docker run --rm --network none --memory x test/box:1 true
~run-prefix docker run --rm --network none --cpus 1000 test/box:1 true 2>&1 | sed -E "s/\b$(nproc)(\.00| CPUs)/N\1/g"
docker run --rm --network none -e =x test/box:1 true
docker run --rm --network none --label =x test/box:1 true
docker run --rm --network none --add-host foo test/box:1 true
docker run --rm --network none --sysctl foo=1 test/box:1 true
docker run --rm --network none --mount foo=bar,dst=/x test/box:1 true
~run-prefix docker run --rm --network none --mount type=foo,dst=/x test/box:1 true
~run-prefix docker run --rm --network none --memory-swappiness 101 test/box:1 true
~run-prefix docker run --rm --network none --cap-add FOO test/box:1 true
~run-prefix docker run --rm --network none --restart always test/box:1 true
~run-prefix docker run --network none --restart foo test/box:1 true
~run-prefix docker run --rm --network none --tmpfs rel test/box:1 true
~run-prefix docker run --rm --network none --pull never nosuch true
~run-prefix docker run --rm --network none --pull foo test/box:1 true
~run-prefix docker run --rm --network none --stop-signal FOO test/box:1 true
docker run --rm --network none --ulimit foo test/box:1 true
~run-prefix docker run --rm --network none --log-driver foo test/box:1 true
~run-prefix docker run --rm --network none --log-opt foo=1 test/box:1 true
~run-prefix docker run --rm --network none --log-opt max-size=x test/box:1 true
~run-prefix docker run --rm --network none --security-opt foo test/box:1 true
~run-prefix docker run --rm --network none -p foo test/box:1 true
docker run --rm --network host -p 80:80 test/box:1 true
~run-prefix,device-code docker run --rm --network none --device /dev/nosuch test/box:1 true
~run-prefix docker run --rm --network none -u bob test/box:1 true
~run-prefix docker run --rm --network none -w rel test/box:1 true
docker run --rm --network none -e A=b -e C=d --entrypoint /bin/sh test/box:1 -c 'echo $A $C'
docker run --rm --network none -w /new/dir test/box:1 pwd
docker ps -a --format '{{.Names}} {{.Status}}' -f name=one
docker ps -f foo=bar
docker ps -f foo
docker ps -f status=foo
docker ps -f exited=x
docker ps -f before=nosuch
docker ps -f ancestor=nosuch
docker ps -f health=x
docker ps -n x
~row-type docker ps --format '{{.Foo}}'
docker ps -q --no-trunc -f status=running
docker ps x
docker start
docker start nosuch
docker start one nosuch
docker start -a one nosuch
docker start one
docker stop nosuch
docker stop -t x one
docker kill nosuch
docker kill -s FOO one
docker wait nosuch
docker rm one
docker rm nosuch
docker rm -f nosuch
docker unpause one
docker pause one
docker pause one
docker ps -f status=paused --format '{{.Names}} {{.State}}'
docker exec one true
docker attach one
docker start one
docker rm one
docker inspect -f '{{.State.Status}} {{.State.Running}} {{.State.Paused}}' one
docker unpause one
docker port one 80
docker rename one
docker rename one one
docker rename one 'x y'
docker rename nosuch x
docker rename one ''
docker kill one
docker kill one
docker wait one
docker attach one
docker exec one true
docker pause
docker pause one
docker unpause nosuch
docker port one
docker stats --no-stream nosuch
docker top one
docker stop one
docker ps -a --format '{{.Names}} {{.Status}}'  -f name=one
docker ps -a -f exited=137 --format '{{.Names}}'
docker rename one uno
docker rm uno
docker create
docker create --network none --name d1 -e A=b -l x=y -h hh test/box:1 sh -c 'echo 1'
docker create --network none nosuch:x --pull never
docker create --restart foo test/box:1
docker create -w rel test/box:1
docker ps -a -f name=d1
docker ps -as -f name=d1 --format '{{.Names}} {{.Mounts}} {{.LocalVolumes}} {{.Networks}} {{.Labels}} {{.Ports}} {{.State}} {{.Label "x"}}'
docker start -a d1
docker logs d1
docker logs nosuch
docker logs --since x d1
docker inspect nosuch
docker container inspect nosuch
docker inspect -f '{{.Name}} {{.Path}} {{.Args}} {{.State.Status}} {{.State.ExitCode}} {{.Config.Hostname}} {{.Config.Env}} {{.HostConfig.NetworkMode}}' d1
docker rm d1
docker container ls -q
~container-group docker container
docker container foo
