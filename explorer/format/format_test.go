package format_test

import (
	"math"
	"testing"
	"time"

	"github.com/lathe-llm/lathe/explorer/format"
)

func TestFormat(t *testing.T) {
	for want, got := range map[string]string{
		"0 B":      format.Bytes(0),
		"999 B":    format.Bytes(999),
		"1.00 kB":  format.Bytes(999.5),
		"17.3 kB":  format.Bytes(17_345),
		"999 kB":   format.Bytes(999_400),
		"1.00 MB":  format.Bytes(999_500),
		"-84.2 MB": format.Bytes(int64(-84_200_000)),
		"1.20 GB":  format.Bytes(1.2e9),
		"3.00 TB":  format.Bytes(3e12),
		"2.00 PB":  format.Bytes(2e15),
		"812":      format.Count(812),
		"1.23 k":   format.Count(1234),
		"135 M":    format.Count(134_515_008),
		"7.24 B":   format.Count(7_241_732_096),
		"7.24 G":   format.SI(7_241_732_096),
		"1.00 T":   format.Count(1e12),
		"0:00":     format.Clock(-time.Second),
		"0:41":     format.Clock(41 * time.Second),
		"12:04":    format.Clock(12*time.Minute + 4*time.Second),
		"1:02:09":  format.Clock(time.Hour + 2*time.Minute + 9*time.Second),
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	for _, unknown := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		if got := format.Bytes(unknown) + format.Count(unknown); got != format.None+format.None {
			t.Errorf("%g: %s", unknown, got)
		}
	}
}
