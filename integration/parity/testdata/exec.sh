# exec, logs, top, attach, kill by signal, inspect of what runs; volumes.
quiet docker load -i box.tar
quiet docker run --network none -d --name up -e A=b test/box:1 sh -c 'trap "exit 4" TERM; echo err >&2; sleep 0.5; echo out; while true; do sleep 0.1; done'
sleep 1.5
docker exec up sh -c 'echo $A $HOME; pwd; exit 9'
docker exec -w /etc -e X=y up sh -c 'pwd; echo $X'
docker exec -d up true
docker exec -it up true </dev/null
docker exec up
docker exec nosuch true
~exec-stream docker exec up nosuchcmd
~exec-stream docker exec up /etc/passwd
~exec-stream docker exec -u bob up true
~exec-stream docker exec -w /nowhere up pwd
echo in | docker exec -i up cat
docker logs up
docker logs -n 1 up
docker logs -n x up
docker logs --tail 0 up
docker logs -t up 2>/dev/null | sed 's/[0-9.:TZ-]* //'
docker logs --since 1h up
docker logs --until 1h up
docker top nosuch
docker top up -o args
docker top up -o pid,args | sed 's/[0-9]* *//' | grep -v ^sleep
docker inspect -f '{{.State.Status}} {{.State.Running}} {{.State.ExitCode}} {{.Config.Tty}} {{.Config.Cmd}} {{.HostConfig.LogConfig.Type}} {{.HostConfig.RestartPolicy.Name}}' up
docker kill -s USR1 nosuch
docker stop up
docker wait up
docker ps -a --format '{{.Names}} {{.Status}}'
docker start up
docker restart -t 5 up
# The shell must have set its trap.
quiet until docker exec up grep -q 'SigCgt:.*[4-7c-f]...$' /proc/1/status; do sleep 0.1; done
docker kill -s TERM up
docker wait up
docker rm up
docker volume
docker volume ls
docker volume create vv
docker volume create vv
docker volume create 'a b'
docker volume create x
docker volume inspect nosuch
docker volume inspect -f '{{.Name}} {{.Driver}} {{.Scope}} {{.Labels}}' vv
docker volume ls -f dangling=true
docker volume ls -f foo=bar
docker volume ls -q
docker run --rm --network none -v vv:/etc test/box:1 sh -c 'ls /etc >/etc/list; echo x'
docker run --rm --network none -v vv:/data:ro test/box:1 touch /data/x
quiet docker create --name user --network none -v vv:/data -v /anon test/box:1
docker ps -a --format '{{.LocalVolumes}}'
docker ps -a -q -f volume=vv | wc -l
docker volume rm vv
docker volume rm nosuch
docker volume rm -f nosuch
docker rm -v user
docker volume ls -q
docker volume rm vv
docker volume prune -f
docker run --network none --name f1 --log-driver none test/box:1 echo x
docker logs f1
docker rm f1
