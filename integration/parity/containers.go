package parity

// containerDifferences are those of the commands that run containers.
func containerDifferences() []Difference {
	return []Difference{
		{
			Name: "run-prefix", Reason: "docker run puts `docker: ` before errors; unio says `Error: ` everywhere",
			Docker: []Rewrite{{`(?m)^docker: (Error: )?`, "Error: "}},
		},
		{
			Name: "oci-runtime", Reason: "docker tells the way of an error through containerd and runc",
			Docker: []Rewrite{{`failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: |OCI runtime exec failed: exec failed: unable to start container process: `, ""}, {`: unknown\n`, "\n"}},
		},
		{
			Name: "device-code", Reason: "docker takes any `no such file or directory` for a missing program (127); that of a device is a failure of the run (125)",
			Codes: []int{127, 125},
		},
		{
			Name: "exec-stream", Reason: "docker exec prints on standard output why a program cannot be run, always with 126; unio on standard error, with 127 for what is not there",
			Docker: []Rewrite{{`(?s).+`, ""}}, Unio: []Rewrite{{`(?s).+`, ""}}, Codes: []int{126, 127},
		},
		{
			Name: "container-group", Reason: "update is not there; diff can compare two",
			Docker: []Rewrite{{`(?m)^  (update|diff) .*\n`, ""}},
			Unio:   []Rewrite{{`(?m)^  diff .*\n`, ""}},
		},
	}
}
