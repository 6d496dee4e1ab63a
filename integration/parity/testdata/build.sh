# build: what is printed, cached, found missing, refused.
quiet docker load -i box.tar
quiet mkdir -p ctx/sub one bad
quiet sh -c 'echo a > ctx/a.txt; echo b > ctx/sub/b.txt; ln -s a.txt ctx/link'
quiet sh -c 'printf "FROM test/box:1\nENV A=1 B=\"two words\"\nWORKDIR /app\nCOPY a.txt sub ./\nRUN cat a.txt b.txt && echo \$A \$B \$PWD\nLABEL x=y\nEXPOSE 80 53/udp\nUSER 1000:1000\nVOLUME /data\nSTOPSIGNAL 9\nHEALTHCHECK --interval=5s CMD true\nENTRYPOINT [\"echo\"]\nCMD [\"hello\"]\n" > ctx/Dockerfile'
~build-client docker build -t app:1 ctx
~build-client docker build -t app:2 -t app:3 ctx
docker inspect -f '{{json .Config.Env}} {{json .Config.Cmd}} {{json .Config.Entrypoint}} {{json .Config.Labels}}' app:1
docker inspect -f '{{json .Config.ExposedPorts}} {{json .Config.Volumes}} {{.Config.User}} {{.Config.WorkingDir}}' app:1
docker inspect -f '{{json .Config.Healthcheck}} {{.Config.StopSignal}} {{.Author}}' app:1
docker history --no-trunc --format '{{.CreatedBy}}' app:1
~build-client docker build --no-cache ctx
~build-client docker build --label k=v --label a=b ctx
~build-client docker build --build-arg UNUSED=1 ctx
quiet sh -c 'printf "ARG V=1\nFROM test/box:\$V AS one\nARG W=w\nARG NONE\nRUN echo \$W\$NONE > /f\nFROM scratch\nCOPY --from=one /f /g\nFROM test/box:1 AS last\nCOPY --from=1 /g /h\nRUN cat /h\nMAINTAINER me\nSHELL [\"/bin/sh\", \"-ec\"]\nRUN echo shell\nONBUILD RUN echo triggered\nONBUILD LABEL on=build\n" > one/Dockerfile'
~build-client docker build -t base:1 --build-arg W=other one
docker history --no-trunc --format '{{.CreatedBy}}' base:1
~build-client docker build --target one one
~build-client docker build --target ONE one
~build-client docker build --target nothing one
quiet sh -c 'printf "FROM base:1\n" > bad/on'
~build-client docker build -f bad/on -t on:1 bad
docker inspect -f '{{json .Config.Labels}} {{json .Config.OnBuild}}' on:1
quiet sh -c 'printf "FROM scratch\nCOPY a.txt /\n" > ctx/scratch'
~build-client docker build -f ctx/scratch ctx
~build-client docker build -q ctx | wc -c
~build-client docker build -q -t q:1 ctx > id; docker inspect -f '{{.Id}}' q:1 | cmp - id && echo same
~build-client docker build -q --iidfile iid ctx > /dev/null; wc -c < iid
# what is wrong with the command line
~build-client docker build
~build-client docker build a b
~build-error docker build nothing
~build-error docker build -f nothing ctx
~build-client docker build -t UPPER ctx
~build-client docker build -t a:b:c ctx
~build-error docker build - < ctx/Dockerfile
docker builder --help 2>/dev/null
docker build --help 2>/dev/null | head -3
docker build --help 2>/dev/null | grep -o -- '--[a-z-]*' | grep -vxE -- '--(output|squash|progress|secret|ssh|registries|tls-ca|insecure-registry)' | sort -u
