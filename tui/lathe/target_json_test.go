package main

import (
	"encoding/json"

	"github.com/lathe-llm/lathe/search"
)

// UnmarshalJSON reads what MarshalJSON writes; only tests read the program's JSON.
func (t *targetResult) UnmarshalJSON(data []byte) error {
	var ratio float64
	if json.Unmarshal(data, &ratio) == nil {
		*t = targetResult(search.Ratio(ratio))
		return nil
	}
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	target, err := search.ParseTarget(text, "")
	*t = targetResult(target)
	return err
}
