package widget

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// The checks of entries. An empty text means the default and passes, except for those that need a text.

// NeedText accepts every text but the empty one.
func NeedText(s string) error {
	if s == "" {
		return fmt.Errorf("must not be empty")
	}
	return nil
}

// ParseNumber reads a number, with a comma or a point, or a percentage: "80 %" is 0.8.
func ParseNumber(s string) (float64, error) {
	s = strings.TrimSpace(strings.ReplaceAll(s, ",", "."))
	scale := 1.0
	if p, ok := strings.CutSuffix(s, "%"); ok {
		s, scale = strings.TrimSpace(p), 0.01
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, fmt.Errorf("not a number")
	}
	return v * scale, nil
}

// NumberIn accepts numbers from lo to hi.
func NumberIn(lo, hi float64) func(string) error {
	return func(s string) error {
		if s == "" {
			return nil
		}
		v, err := ParseNumber(s)
		if err != nil {
			return err
		}
		if v < lo || v > hi {
			return fmt.Errorf("must be from %v to %v", lo, hi)
		}
		return nil
	}
}

// InRange accepts numbers that has accepts; r is how they are described.
func InRange(has func(float64) bool, r fmt.Stringer) func(string) error {
	return func(s string) error {
		if s == "" {
			return nil
		}
		v, err := ParseNumber(s)
		if err == nil && !has(v) {
			err = fmt.Errorf("must be in %v", r)
		}
		return err
	}
}

// CountIn accepts whole numbers from lo to hi.
func CountIn(lo, hi int) func(string) error {
	return func(s string) error {
		if s == "" {
			return nil
		}
		v, err := strconv.Atoi(s)
		if err != nil {
			return fmt.Errorf("not a whole number")
		}
		if v < lo || v > hi {
			return fmt.Errorf("must be from %d to %d", lo, hi)
		}
		return nil
	}
}

// Ratio accepts ratios above 0 and up to 1, and not the empty text.
func Ratio(s string) error {
	v, err := ParseNumber(s)
	if err != nil {
		return err
	}
	if v <= 0 || v > 1 {
		return fmt.Errorf("must be above 0 and at most 1: 0.8, or 80 %%")
	}
	return nil
}
