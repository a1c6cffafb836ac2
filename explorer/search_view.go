package explorer

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/space"
)

// The newest search is kept in the workspace as it was shown last, so that its front and population outlive the process.
const (
	searchFolder = "search"
	viewFile     = "view.json"
	unreadSuffix = ".unread" // of a file that this program could not read
	viewVersion  = 1
	maxViewBytes = 256 << 20
)

// searchView is the content of the file.
type searchView struct {
	Version int
	Model   string // fingerprint
	Search
	// Candidates in a form without geometry; they hide those of Search.
	Best       *candidateView
	Population []candidateView
	Front      []candidateView
	Answers    *Answers `json:",omitempty"`
}

// candidateView is a [Candidate].
type candidateView struct {
	ID, Parent, Generation int
	Origin                 search.Origin
	Moves                  string
	Ratio, Cost            float64
	Score                  search.Score
	Tier, Tiers            int
	ShareAll, Zeroed       float64
	Bytes                  int64
	Bits                   []byte // of the masks
	// Choice and Weights are those of a candidate with modules of a subnet made by hand, ByHand.
	ByHand  bool         `json:",omitempty"`
	Choice  space.Choice `json:",omitempty"`
	Weights string       `json:",omitempty"`
	// Choice is also that of a candidate of levels that have types. File and Tensors are its sizes.
	File, Tensors int64   `json:",omitempty"`
	BitsPerByte   float64 `json:",omitempty"`
}

func viewOf(c Candidate) candidateView {
	v := candidateView{
		ID: c.ID, Parent: c.Parent, Generation: c.Generation, Origin: c.Origin, Moves: c.Moves, Ratio: c.Ratio, Cost: c.Cost, Score: c.Score,
		Tier: c.Tier, Tiers: c.Tiers, ShareAll: c.ShareAll, Zeroed: c.Zeroed, Bytes: c.Bytes, Bits: c.Masks.AppendBits(nil),
	}
	if c.Individual.Bytes > 0 {
		v.Choice, v.File, v.Tensors, v.BitsPerByte = c.Choice, c.Individual.Bytes, c.Individual.Tensors, c.BitsPerByte
	}
	if c.Base != nil {
		v.ByHand, v.Choice, v.Weights = true, c.Choice, c.Base.Weights
	}
	return v
}

func (v candidateView) candidate(m *ModelInfo) (Candidate, error) {
	masks, err := subnet.FromBits(m.Geometry, v.Bits)
	if err != nil {
		return Candidate{}, fmt.Errorf("candidate %d: %w", v.ID, err)
	}
	found := search.Candidate{Masks: masks}
	if v.ByHand { // its modules that are of the base are those of its masks
		found.Choice, found.Base = v.Choice, &space.Base{Masks: masks, Weights: v.Weights}
		if len(v.Choice) != 0 && len(v.Choice) != subnet.Modules*masks.Layers() {
			return Candidate{}, fmt.Errorf("candidate %d: a choice of %d modules", v.ID, len(v.Choice))
		}
	}
	if v.File > 0 {
		found.Choice = v.Choice
		if len(v.Choice) != subnet.Modules*masks.Layers()+1 {
			return Candidate{}, fmt.Errorf("candidate %d: a choice of %d levels", v.ID, len(v.Choice))
		}
	}
	return Candidate{
		BitsPerByte: v.BitsPerByte,
		Individual: search.Individual{
			Bytes: v.File, Tensors: v.Tensors,
			Candidate: found, ID: v.ID, Parent: v.Parent, Generation: v.Generation, Origin: v.Origin, Moves: v.Moves,
			Ratio: v.Ratio, Cost: v.Cost, Score: v.Score, Tier: v.Tier,
		},
		ShareAll: v.ShareAll, Zeroed: v.Zeroed, Bytes: cmp.Or(v.File, m.FileSize(masks, "").File), Tiers: v.Tiers,
	}, nil
}

// views are the candidates whose scores are finite: JSON holds no others.
func views(all []Candidate) []candidateView {
	out := make([]candidateView, 0, len(all))
	for _, c := range all {
		if finite(c.Score.Fitness) && finite(c.Score.NLL) && finite(c.Score.KL) && finite(c.Cost) && !slices.ContainsFunc(c.Score.Parts, func(v float64) bool { return !finite(v) }) {
			out = append(out, viewOf(c))
		}
	}
	return out
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// keepSearch writes the search as it is shown now.
func (e *Exploration) keepSearch(s Search) error {
	dir := e.folder(searchFolder)
	if dir == "" || s.Best == nil {
		return nil
	}
	v := searchView{Version: viewVersion, Model: e.Snapshot().Model.Fingerprint, Search: s, Population: views(s.Population), Front: views(s.Front)}
	v.Cloud = slices.DeleteFunc(slices.Clone(s.Cloud), func(p search.Point) bool { return !finite(p.Fitness) || !finite(p.NLL) })
	if best := views([]Candidate{*s.Best}); len(best) > 0 {
		v.Best = &best[0]
	}
	if a := e.Snapshot().Answers; a.Prompt != "" || len(a.Best) > 0 {
		a.Busy, a.Now = false, nil
		v.Answers = &a
	}
	data, err := json.Marshal(v)
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	path := filepath.Join(dir, viewFile)
	if err == nil && e.unreadView.Load() { // it may be of use to another version of this program
		if err = os.Rename(path, path+unreadSuffix); err == nil || errors.Is(err, fs.ErrNotExist) {
			e.unreadView.Store(false)
			err = nil
		}
	}
	if err == nil {
		err = durable.WriteFile(path, data, 0o600)
	}
	return err
}

// restoreSearch reads the search that was kept, if there is one. A file that cannot be read, or is of another model, is left as
// it is, and the note that it returns gives the reason.
func (e *Exploration) restoreSearch(now *Snapshot) (note string) {
	path := filepath.Join(now.Workspace.Path, searchFolder, viewFile)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	var found Search
	var answers Answers
	if err == nil && info.Size() > maxViewBytes {
		err = fmt.Errorf("it has %d bytes", info.Size())
	}
	if err == nil {
		found, answers, err = readView(path, now.Model)
	}
	if err != nil {
		note = fmt.Sprintf("the last search is not shown: %s: %v", path, err)
		now.Search.Unread = oneLine(note)
		e.unreadView.Store(true)
		return note
	}
	now.Search, now.Answers = found, answers
	return ""
}

func readView(path string, m ModelInfo) (Search, Answers, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Search{}, Answers{}, err
	}
	var v searchView
	if err := json.Unmarshal(data, &v); err != nil {
		return Search{}, Answers{}, err
	}
	switch {
	case v.Version != viewVersion:
		return Search{}, Answers{}, fmt.Errorf("it has version %d, this program reads %d", v.Version, viewVersion)
	case v.Model != m.Fingerprint:
		return Search{}, Answers{}, errors.New("it is of another model")
	}
	s := v.Search
	s.Job, s.Best, s.Population, s.Front = "", nil, nil, nil
	for _, list := range []struct {
		from []candidateView
		to   *[]Candidate
	}{{v.Population, &s.Population}, {v.Front, &s.Front}} {
		for _, c := range list.from {
			got, err := c.candidate(&m)
			if err != nil {
				return Search{}, Answers{}, err
			}
			*list.to = append(*list.to, got)
		}
	}
	if v.Best != nil {
		best, err := v.Best.candidate(&m)
		if err != nil {
			return Search{}, Answers{}, err
		}
		s.Best = &best
	}
	if v.Answers == nil {
		return s, Answers{}, nil
	}
	a := *v.Answers
	a.Job, a.Busy, a.Now = "", false, nil
	return s, a.bounded(), nil
}
