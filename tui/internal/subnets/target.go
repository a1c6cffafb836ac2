package subnets

import (
	"errors"
	"strings"

	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// TargetEntry is an entry for a target, which [TargetOf] reads. Optional ones may be left empty.
func TargetEntry(label, value string, optional bool) *widget.Entry {
	return widget.TextEntry("target", label, value, targetForms, func(v string) error {
		if v == "" && optional {
			return nil
		}
		_, err := search.ParseTarget(v, "")
		if err != nil {
			return errors.New(strings.TrimPrefix(err.Error(), search.ErrConfig.Error()+": "))
		}
		return nil
	})
}

// targetForms is the help of an entry for a target.
const targetForms = "ratio of block parameters to keep: 0.8, or 80 %; file: 80MB; memory=512MB@4096: weights and KV cache at a context; " +
	"speed=1.5x or latency=12ms: per generated token on this machine; with :Q4_0 of the file in that type"

// TargetOf returns the target entered in a form, the zero value for none.
func TargetOf(f *widget.Form) search.Target {
	t, _ := search.ParseTarget(f.Get("target"), "") // it has passed
	return t
}
