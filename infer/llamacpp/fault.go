package llamacpp

import (
	"errors"
	"fmt"
	"strings"

	"github.com/lathe-llm/lathe/infer"
)

// gpuError is a fault of a GPU or its driver that ended a child or a load.
type gpuError struct {
	fault string // what the child's log reports
	cause error
}

func (e *gpuError) Error() string {
	return fmt.Sprintf("the GPU failed: %s: use --gpu off, or fewer layers with --gpu N", e.fault)
}

func (e *gpuError) Unwrap() []error {
	if strings.Contains(strings.ToLower(e.fault), "alloca") || strings.Contains(strings.ToLower(e.fault), "memory") {
		return []error{infer.ErrNoMemory, e.cause}
	}
	return []error{e.cause}
}

// mayFallBack reports whether the model may run on the processor where GPUs fail: the caller asked for as many layers there as
// fit, and for no number.
func (m *Model) mayFallBack() bool { return m.plan.options.GPULayers < 0 }

// resumes reports whether a call that failed may be repeated on the processor: a GPU failed, and the model may fall back.
func (m *Model) resumes(err error) bool {
	var fault *gpuError
	return errors.As(err, &fault) && m.mayFallBack() && m.ctx.Err() == nil
}
