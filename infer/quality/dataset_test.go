package quality

import (
	"slices"
	"testing"
)

func TestDatasets(t *testing.T) {
	for _, task := range Tasks() {
		d, ok := DatasetOf(task)
		if !ok || d.Owner == "" || d.Name == "" || d.Config == "" || d.Split == "" {
			t.Errorf("%s: %+v, %v", task, d, ok)
		}
	}
	if _, ok := DatasetOf("nothing"); ok {
		t.Error("an unknown task has a dataset")
	}
	d := Dataset{Config: "main", Split: "test"}
	for want, names := range map[string][]string{
		"main/test/0000.parquet":                 {"main/test/0000.parquet", "main/train/0000.parquet", "additional/test/0000.parquet", "README.md"},
		"main/test-00000-of-00001.parquet":       {"main/test-00000-of-00001.parquet", "main/train-00000-of-00001.parquet", "other/test-00000-of-00001.parquet"},
		"":                                       {"main/test/0000.jsonl"},
		"data/validation-00000-of-00001.parquet": {"data/validation-00000-of-00001.parquet", "data/train-00000-of-00001.parquet"},
	} {
		of := d
		if want != "" && want[0] == 'd' {
			of = Dataset{Config: "default", Split: "validation"}
		}
		got, err := of.Choose(names)
		if want == "" && err == nil || want != "" && (err != nil || !slices.Equal(got, []string{want})) {
			t.Errorf("of %q: %q, %v", names, got, err)
		}
	}
	if got, err := d.Choose([]string{"main/test/0000.parquet", "main/test/0001.parquet"}); err == nil {
		t.Errorf("of two shards: %q", got)
	}
}
