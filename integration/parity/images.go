package parity

// imageDifferences are those of the commands that manage images.
func imageDifferences() []Difference {
	return []Difference{
		{
			Name: "filter-capital", Reason: "docker 20.10 says `Invalid filter`, docker 28 `invalid filter`; unio says the latter",
			Docker: []Rewrite{{`Invalid filter`, "invalid filter"}},
		},
	}
}
