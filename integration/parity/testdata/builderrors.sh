# build: Dockerfiles that are wrong.
quiet docker load -i box.tar
quiet sh -c 'mkdir ctx; echo a > ctx/a; echo b > ctx/b'
~build-error printf 'FROM test/box:1\nRUN exit 3\n' > ctx/Dockerfile; docker build ctx
~build-exec printf 'FROM test/box:1\nRUN ["nothing"]\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM test/box:1\nCOPY nothing /\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM test/box:1\nCOPY no* /\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM test/box:1\nCOPY ../x /\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM test/box:1\nCOPY a b /x\n' > ctx/Dockerfile; docker build ctx
~build-place printf 'FROM test/box:1\nCOPY a /etc/passwd/x\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM test/box:1\nADD nothing /\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM test/box:1\nCOPY --from=nothing a /\n' > ctx/Dockerfile; docker build ctx
~build-early printf 'FROM test/box:1\nCOPY --from=0 a /\n' > ctx/Dockerfile; docker build ctx
~build-early printf 'FROM test/box:1\nCOPY --from=7 a /\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM test/box:1\nCOPY --chown=nobodyknows a /\n' > ctx/Dockerfile; docker build ctx
~build-words printf 'FROM test/box:1\nFRMO x\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'RUN x\n' > ctx/Dockerfile; docker build ctx
~build-words printf 'ARG x\n' > ctx/Dockerfile; docker build ctx
~build-error printf '' > ctx/Dockerfile; docker build ctx
~build-words printf '# comment\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM a b\n' > ctx/Dockerfile; docker build ctx
~build-early printf 'FROM ${X}\n' > ctx/Dockerfile; docker build ctx
~build-words printf 'FROM UPPER\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM test/box:1\nENV\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM test/box:1\nENV a\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM test/box:1\nENV =x\n' > ctx/Dockerfile; docker build ctx
~build-words printf 'FROM test/box:1\nENV a=${b\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM test/box:1\nENV a=${b?unset}\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM test/box:1\nEXPOSE x\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM test/box:1\nEXPOSE 99999\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM test/box:1\nEXPOSE 80/icmp\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM test/box:1\nSTOPSIGNAL NOPE\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM test/box:1\nUSER\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM test/box:1\nUSER nobodyknows\nRUN true\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM test/box:1\nWORKDIR\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM test/box:1\nWORKDIR /etc/passwd\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM test/box:1\nVOLUME\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM test/box:1\nVOLUME [""]\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM test/box:1\nSHELL sh\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM test/box:1\nHEALTHCHECK FOO\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM test/box:1\nHEALTHCHECK --interval=1 CMD x\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM test/box:1\nONBUILD\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM test/box:1\nONBUILD ONBUILD RUN x\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM test/box:1\nONBUILD FROM x\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM test/box:1\nMAINTAINER\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM test/box:1\nLABEL\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM test/box:1\nCOPY a\n' > ctx/Dockerfile; docker build ctx
~build-words printf 'FROM test/box:1\nCOPY --frob a b\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM test/box:1\nRUN\n' > ctx/Dockerfile; docker build ctx || echo failed
~build-error printf 'FROM test/box:1\nRUN [\n' > ctx/Dockerfile; docker build ctx || echo failed
~build-error printf 'FROM test/box:1\nRUN ["a"\n' > ctx/Dockerfile; docker build ctx || echo failed
~build-error printf '# escape=x\nFROM test/box:1\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM test/box:1 AS 1x\n' > ctx/Dockerfile; docker build ctx
~build-error printf 'FROM test/box:1\nCMD ["a]\n' > ctx/Dockerfile; docker build ctx
