package engine

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/oneshot"
)

const (
	// oldStatistics is the only file of statistics that earlier versions kept.
	oldStatistics = "statistics.json"
	// maxStatistics bounds such a file, in bytes: about 100 for each unit of a model of the largest kind in use.
	maxStatistics = 1 << 30
	// maxTexts is of how many texts statistics are kept, the newest, and maxInterrupted of how many interrupted runs.
	maxTexts       = 16
	maxInterrupted = 4
)

// statisticsOf is what statistics are gathered from.
type statisticsOf struct {
	Model   string           `json:"model"` // fingerprint
	Text    explorer.TextRef `json:"text"`
	Windows int              `json:"windows"`
	Seq     int              `json:"seq"`
	Starts  string           `json:"starts,omitempty"` // explorer.BOSEvery where each window begins with a start token
	Draw    string           `json:"draw,omitempty"`   // how the windows were drawn, "" for those from the start of the text
}

// key is equal for equal contents, wherever the text is.
func (o statisticsOf) key() statisticsOf {
	o.Text = explorer.TextRef{SHA256: o.Text.SHA256}
	return o
}

// name returns the name of the file of statistics, without its end.
func (o statisticsOf) name() string {
	h := sha256.Sum256(fmt.Appendf(nil, "%+v", o.key()))
	return hex.EncodeToString(h[:8])
}

// keptStatistics are statistics with what they were gathered from.
type keptStatistics struct {
	statisticsOf
	Gathered time.Time `json:"gathered"`
	// Statistics are as package oneshot writes them.
	Statistics json.RawMessage `json:"statistics"`
}

// statisticsFolder is where the statistics of one text are kept: a file once they are whole, and before a folder with a file for each
// layer. Without dir nothing is kept.
type statisticsFolder struct {
	dir      string
	of       statisticsOf
	geometry *subnet.Geometry
}

// errOther is returned for stored statistics of another text.
var errOther = fmt.Errorf("the stored statistics are of another text: %w", os.ErrNotExist)

// read reads stored statistics. Its error wraps os.ErrNotExist when there are none of this text.
func (f statisticsFolder) read() (*oneshot.Statistics, time.Time, error) {
	if f.dir == "" {
		return nil, time.Time{}, os.ErrNotExist
	}
	s, at, err := f.readFile(f.of.name() + ".json")
	if errors.Is(err, os.ErrNotExist) {
		return f.readFile(oldStatistics)
	}
	return s, at, err
}

func (f statisticsFolder) readFile(name string) (*oneshot.Statistics, time.Time, error) {
	file, err := os.Open(filepath.Join(f.dir, name))
	if err != nil {
		return nil, time.Time{}, err
	}
	defer func() { _ = file.Close() }() // only read from
	var kept keptStatistics
	if err := json.NewDecoder(io.LimitReader(file, maxStatistics)).Decode(&kept); err != nil {
		return nil, time.Time{}, fmt.Errorf("%s: %w: %w", file.Name(), explorer.ErrDamaged, err)
	}
	if kept.key() != f.of.key() {
		return nil, time.Time{}, errOther
	}
	s, err := oneshot.LoadStatistics(bytes.NewReader(kept.Statistics), f.geometry)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("%s: %w", file.Name(), err)
	}
	return s, kept.Gathered, nil
}

// write stores statistics and removes the files of their layers, and those of the oldest texts beyond maxTexts.
func (f statisticsFolder) write(s *oneshot.Statistics, at time.Time) error {
	if f.dir == "" {
		return nil
	}
	var b bytes.Buffer
	if err := s.Save(&b); err != nil {
		return err
	}
	data, err := json.Marshal(keptStatistics{f.of, at, b.Bytes()})
	if err == nil {
		err = durable.MkdirAll(f.dir, 0o755)
	}
	if err == nil {
		err = durable.WriteFile(filepath.Join(f.dir, f.of.name()+".json"), data, 0o600)
	}
	if err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(f.layers()), f.prune())
}

// layers is the folder of the layers of an interrupted run.
func (f statisticsFolder) layers() string { return filepath.Join(f.dir, f.of.name()) }

func (f statisticsFolder) layer(i int) string {
	return filepath.Join(f.layers(), fmt.Sprintf("layer-%04d.json", i))
}

// readLayer returns the statistics of a layer that an interrupted run kept, nil where there are none that can be used.
func (f statisticsFolder) readLayer(i int) *oneshot.LayerStatistics {
	if f.dir == "" {
		return nil
	}
	file, err := os.Open(f.layer(i))
	if err != nil {
		return nil
	}
	defer func() { _ = file.Close() }() // only read from
	var kept struct {
		Of    statisticsOf             `json:"of"`
		Layer *oneshot.LayerStatistics `json:"layer"`
	}
	if err := json.NewDecoder(io.LimitReader(file, maxStatistics)).Decode(&kept); err != nil || kept.Layer == nil || kept.Of.key() != f.of.key() || !kept.Layer.Fits(f.geometry.Layers[i]) {
		return nil
	}
	return kept.Layer
}

// writeLayer keeps the statistics of a layer.
func (f statisticsFolder) writeLayer(i int, s *oneshot.LayerStatistics) error {
	if f.dir == "" {
		return nil
	}
	data, err := json.Marshal(struct {
		Of    statisticsOf             `json:"of"`
		Layer *oneshot.LayerStatistics `json:"layer"`
	}{f.of, s})
	if err == nil {
		err = durable.MkdirAll(f.layers(), 0o755)
	}
	if err != nil {
		return err
	}
	return durable.WriteFile(f.layer(i), data, 0o600)
}

// prune removes what is beyond the newest of a kind.
func (f statisticsFolder) prune() error {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return err
	}
	type found struct {
		name string
		at   time.Time
	}
	var files, folders []found
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue
		}
		switch one := (found{e.Name(), info.ModTime()}); {
		case e.IsDir():
			folders = append(folders, one)
		case strings.HasSuffix(e.Name(), ".json"):
			files = append(files, one)
		}
	}
	remove := func(list []found, most int) (err error) {
		slices.SortFunc(list, func(a, b found) int { return cmp.Or(b.at.Compare(a.at), cmp.Compare(a.name, b.name)) })
		for i := most; i < len(list); i++ {
			err = errors.Join(err, os.RemoveAll(filepath.Join(f.dir, list[i].name)))
		}
		return err
	}
	return errors.Join(remove(files, maxTexts), remove(folders, maxInterrupted))
}
