# info, version, system df, system prune.
docker info a
docker info --frob
docker system info a
docker info -f '{{'
~value-type docker info -f '{{.Frob}}'
docker info --format '{{.Images}} {{.Containers}} {{.ContainersRunning}} {{.ContainersPaused}} {{.ContainersStopped}}'
docker system info -f '{{.OSType}} {{.Architecture}} {{.NCPU}} {{.KernelVersion}} {{.Name}}' | sed "s/$(uname -m) $(nproc) $(uname -r) $(uname -n)/MACHINE/"
echo $(($(docker info -f '{{.MemTotal}}') / 1024 - $(awk '/^MemTotal/{print $2}' /proc/meminfo)))
docker info -f '{{.OperatingSystem}}' | grep -cF "$(. /etc/os-release; echo $PRETTY_NAME)"
docker info -f '{{json .Labels}} {{.Debug}} {{.LoggingDriver}} {{.CgroupDriver}} {{.CgroupVersion}} {{json .Plugins.Volume}}' | sed 's/ [12] / N /'
docker info -f '{{.Swarm.LocalNodeState}} {{.IndexServerAddress}}'
docker info | grep -E '^ (Containers|Images|Kernel Version|Operating System|OSType|Architecture|CPUs|Total Memory|Name|Debug Mode):|^  (Running|Paused|Stopped): ' | sed -E 's/(Version|System|Architecture|CPUs|Memory|Name):.*/\1:/'
docker info | grep -oE '^(Client|Server):|^ (Server Version|Storage Driver|Logging Driver|Cgroup Driver|Cgroup Version|Docker Root Dir|Default Runtime|Insecure Registries):'
docker info --format json | tr , '\n' | grep -oE '"(Images|Containers|OSType)":.*'
docker version a
docker version --frob
docker version -f '{{'
~value-type docker version -f '{{.Frob}}'
docker version -f '{{.Client.Os}}/{{.Client.Arch}} {{.Server.Os}}/{{.Server.Arch}}' | sed "s/$(dpkg --print-architecture)/ARCH/g"
docker version -f '{{.Server.KernelVersion}}' | sed "s/$(uname -r)/KERNEL/"
docker version | grep -oE '^(Client|Server):|^ +(Version|Go version|Git commit|Built|OS/Arch):' | head -12
docker version --format json | grep -oE '"(Client|Server)":'
docker --version | grep -oE 'version .*, build' | wc -l
docker -v | grep -oE 'version .*, build' | wc -l
docker system df a
docker system df --frob
docker system df
docker system df --format '{{.Type}}: {{.TotalCount}} {{.Active}}'
docker system df --format 'table {{.Type}}\t{{.TotalCount}}'
~row-type docker system df --format '{{.Frob}}'
docker system df --format '{{'
~df-cache docker system df -v
docker load -q -i base.tar
docker load -q -i chain.tar
docker load -q -i box.tar
docker create --name one test/box:1 true
docker create --name two test/box:1 true
~df-sizes docker system df
docker system df --format '{{.Type}}: {{.TotalCount}} {{.Active}}'
~df-sizes docker system df --format json
~df-sizes,df-cache docker system df -v
docker system df -v --format json | grep -oE '"(Images|Containers|Volumes|BuildCache|ID|Repository|Tag|Names|Status|State|LocalVolumes|Command)":[^,]*'
docker system df -v --format '{{range .Images}}{{.Repository}} {{.Containers}};{{end}}'
docker info -f '{{.Images}} {{.Containers}} {{.ContainersRunning}} {{.ContainersStopped}}'
# volumes
docker create --name three -v named:/data -v /anonymous test/box:1 true
docker system df --format '{{.Type}}: {{.TotalCount}} {{.Active}}'
docker system df -v --format '{{range .Volumes}}{{.Links}} {{.Driver}};{{end}}'
docker rm three
~no-networks docker system prune --volumes </dev/null
docker system df --format '{{.Type}}: {{.TotalCount}} {{.Active}}'
docker system prune a
docker system prune --frob
~no-networks docker system prune </dev/null
~no-networks echo n | docker system prune
~no-networks echo n | docker system prune -a
~no-networks echo n | docker system prune --volumes
~no-networks echo n | docker system prune -a --filter label=x --filter until=24h
~capital-invalid docker system prune --filter frob=1 -f
docker system prune --volumes --filter until=1h -f
docker system prune --filter frob -f
docker system prune --filter until=xyz -f
docker system prune -f --filter label=nothing
docker system prune -f --filter until=24h
docker ps -aq | wc -l
~no-networks,reclaimed echo y | docker system prune
docker images --format '{{.Repository}}:{{.Tag}}' | sort
~reclaimed docker system prune -af | sort | sed 's/sha256:.*/ID/'
docker images
quiet docker volume rm $(docker volume ls -q)
docker system df --format '{{.Type}}: {{.TotalCount}} {{.Active}} {{.Size}} {{.Reclaimable}}'
docker system frob
