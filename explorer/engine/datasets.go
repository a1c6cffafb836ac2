package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/corpus"
	"github.com/lathe-llm/lathe/infer/hub"
	"github.com/lathe-llm/lathe/infer/quality"
)

// maxDataSet is how much text of a data set is read, in bytes.
const maxDataSet = 256 << 20

// hubDataSet is a data set of the hub: one file of a split.
type hubDataSet struct {
	repo          hub.Repo
	config, split string // "" is the only one, and train
	field         string
}

// parseDataSet reads OWNER/NAME[@REVISION][/CONFIG[/SPLIT]][#FIELD].
func parseDataSet(text string) (hubDataSet, error) {
	var d hubDataSet
	name, field, _ := strings.Cut(text, "#")
	parts := strings.Split(name, "/")
	bad := func() (hubDataSet, error) {
		return d, fmt.Errorf("%w: %s%s: a data set of the hub is named as %sOWNER/NAME[@REVISION][/CONFIG[/SPLIT]][#FIELD]", explorer.ErrInvalid, explorer.HubText, text, explorer.HubText)
	}
	if len(parts) < 2 || len(parts) > 4 || slices.Contains(parts, "") {
		return bad()
	}
	repo, ok := hub.Parse(parts[0] + "/" + parts[1])
	if !ok {
		return bad()
	}
	d.repo, d.field = repo, field
	d.repo.Dataset = true
	if len(parts) > 2 {
		d.config = parts[2]
	}
	if len(parts) > 3 {
		d.split = parts[3]
	}
	return d, nil
}

// part is a file of a split.
type part struct{ config, split, name string }

// dataParts returns the data files of a repository: CONFIG/SPLIT/0000.parquet, as the hub converts data sets, or CONFIG/SPLIT-00000-of-00009.parquet
// and SPLIT.jsonl, as authors store them.
func dataParts(names []string) []part {
	var list []part
	for _, name := range slices.Sorted(slices.Values(names)) {
		if !corpus.IsDataSet(name) {
			continue
		}
		folder, base := path.Split(name)
		dirs := strings.FieldsFunc(folder, func(r rune) bool { return r == '/' })
		p := part{config: "default", name: name}
		stem, _, _ := strings.Cut(base, ".")
		switch {
		case len(dirs) == 2 && strings.Trim(stem, "0123456789") == "":
			p.config, p.split = dirs[0], strings.TrimPrefix(dirs[1], "partial-")
		default:
			p.split, _, _ = strings.Cut(stem, "-0")
			if at := strings.LastIndexByte(p.split, '-'); at > 0 { // c4-train.00000-of-01024.json.gz
				p.split = p.split[at+1:]
			}
			if len(dirs) > 0 && dirs[len(dirs)-1] != "data" {
				p.config = dirs[len(dirs)-1]
			}
		}
		list = append(list, p)
	}
	return list
}

// choose returns the first file of the split.
func (d hubDataSet) choose(names []string) ([]string, error) {
	parts := dataParts(names)
	of := func(get func(part) string) []string {
		var out []string
		for _, p := range parts {
			if v := get(p); !slices.Contains(out, v) {
				out = append(out, v)
			}
		}
		return out
	}
	config := d.config
	if configs := of(func(p part) string { return p.config }); config == "" {
		switch {
		case len(configs) == 0:
			return nil, fmt.Errorf("%w: %s has no parquet files and no JSON lines", explorer.ErrText, d.repo.ID())
		case len(configs) == 1:
			config = configs[0]
		case slices.Contains(configs, "default"):
			config = "default"
		default:
			return nil, fmt.Errorf("%w: %s has several configurations, name one behind it: %s", explorer.ErrText, d.repo.ID(), firstOf(configs))
		}
	}
	split := d.split
	if split == "" {
		split = "train"
	}
	for _, p := range parts {
		if p.config == config && p.split == split {
			return []string{p.name}, nil
		}
	}
	return nil, fmt.Errorf("%w: %s has no split %s of the configuration %s: it has %s", explorer.ErrText, d.repo.ID(), split, config,
		firstOf(of(func(p part) string { return p.config + "/" + p.split })))
}

// firstOf lists the first ones of many names.
func firstOf(names []string) string {
	const most = 12
	if len(names) > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}

// fetchDataSet returns the file of a data set, from the hub or its cache, as a path with the field of the text.
func (m *model) fetchDataSet(ctx context.Context, name string, mon explorer.Monitor) (string, error) {
	d, err := parseDataSet(name)
	if err != nil {
		return "", err
	}
	revisions := []string{d.repo.Revision}
	if !strings.Contains(name, "@") { // of those that the hub does not convert, authors store parquet or JSON lines
		revisions = []string{quality.ParquetRevision, d.repo.Revision}
	}
	var failed error
	for _, revision := range revisions {
		d.repo.Revision = revision
		got, err := hub.New(os.Getenv).FetchFiles(ctx, d.repo, d.choose, func(p hub.Progress) {
			mon.Progress(float64(p.Done), float64(p.Total), "bytes", "download "+d.repo.ID())
		})
		if err == nil {
			file := filepath.Join(got.Dir, filepath.FromSlash(got.Files[0]))
			if d.field != "" {
				file += "#" + d.field
			}
			return file, nil
		}
		if ctx.Err() != nil {
			return "", err
		}
		if failed == nil || !errors.Is(failed, explorer.ErrText) {
			failed = err
		}
	}
	return "", fmt.Errorf("%s%s: %w", explorer.HubText, name, failed)
}
