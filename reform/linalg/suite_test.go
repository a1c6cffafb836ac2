package linalg_test

import (
	"testing"

	"github.com/lathe-llm/lathe/reform/linalg"
	"github.com/lathe-llm/lathe/reform/linalg/linalgtest"
)

func TestCPU(t *testing.T) { linalgtest.Run(t, linalg.CPU{}) }
