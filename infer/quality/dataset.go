package quality

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Dataset is where the questions of a task are on the Hugging Face hub.
type Dataset struct {
	Owner, Name   string
	Config, Split string // the split that lm-evaluation-harness evaluates
}

// ParquetRevision is the revision of datasets where the hub keeps them converted to parquet.
const ParquetRevision = "refs/convert/parquet"

// DatasetOf returns the dataset of a task; ok is false for an unknown task.
func DatasetOf(task string) (d Dataset, ok bool) {
	d, ok = map[string]Dataset{
		"arc_challenge": {"allenai", "ai2_arc", "ARC-Challenge", "test"},
		"arc_easy":      {"allenai", "ai2_arc", "ARC-Easy", "test"},
		"boolq":         {"aps", "super_glue", "boolq", "validation"},
		"hellaswag":     {"Rowan", "hellaswag", "default", "validation"},
		"openbookqa":    {"allenai", "openbookqa", "main", "test"},
		"piqa":          {"ybisk", "piqa", "plain_text", "validation"},
		"winogrande":    {"allenai", "winogrande", "winogrande_xl", "validation"},
	}[task]
	return d, ok
}

// Choose returns the parquet file of the dataset's split among the files of its repository: CONFIG/SPLIT/0000.parquet, as the hub
// converts datasets, or CONFIG/SPLIT-00000-of-00001.parquet, as authors store them (in data where there is one config).
func (d Dataset) Choose(names []string) ([]string, error) {
	var found []string
	for _, name := range names {
		folder, base := path.Split(name)
		inSplit := folder == d.Config+"/"+d.Split+"/"
		byName := strings.HasPrefix(base, d.Split+"-") && (folder == d.Config+"/" || folder == "data/" && d.Config == "default")
		if path.Ext(base) == ".parquet" && (inSplit || byName) {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	if len(found) != 1 {
		return nil, fmt.Errorf("quality: %d parquet files of the split %s of %s, 1 is needed", len(found), d.Split, d.Config)
	}
	return found, nil
}
