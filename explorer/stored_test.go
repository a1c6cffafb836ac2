package explorer

import (
	"reflect"
	"testing"

	"github.com/lathe-llm/lathe/search"
)

// TestSearchOfEarlierVersionKeepsItsText resumes searches that were recorded before windows were drawn over whole texts.
func TestSearchOfEarlierVersionKeepsItsText(t *testing.T) {
	for text, want := range map[string]string{"": TextWiki, "notes.txt": "notes.txt"} {
		old := StartSearch{Target: search.Ratio(0.7), Seed: 3, Calibration: Calibration{Text: text, Windows: 6}}
		for _, s := range []*Snapshot{{Unfinished: &Unfinished{Search: old}}, {Ended: &EndedSearch{Search: old, Target: search.Ratio(0.7)}}} {
			got, err := s.resumed(StartSearch{Resume: true})
			if err != nil || !reflect.DeepEqual(got.Calibration, Calibration{Text: want, Windows: 6, Draw: DrawStart}) {
				t.Errorf("%q: resumed with %+v, error %v", text, got.Calibration, err)
			}
		}
	}
	for of, want := range map[int]Calibration{0: {Mix: firstMix(), Draw: DrawWhole, Seed: 4}, defaultTexts: {Draw: DrawWhole, Seed: 4, DefaultTexts: defaultTexts}} {
		s := &Snapshot{Ended: &EndedSearch{Search: StartSearch{Target: search.Ratio(0.7), Seed: 3, Calibration: Calibration{Draw: DrawWhole, Seed: 4, DefaultTexts: of}}, Target: search.Ratio(0.7)}}
		if got, err := s.resumed(StartSearch{Resume: true}); err != nil || !reflect.DeepEqual(got.Calibration, want) {
			t.Errorf("the default mix %d is resumed with %+v, error %v", of, got.Calibration, err)
		}
	}
	mix := Calibration{Mix: []MixText{{Name: TextWiki}, {Name: TextChat}}, Draw: DrawWhole, Seed: 4}
	s := &Snapshot{Ended: &EndedSearch{Search: StartSearch{Target: search.Ratio(0.7), Seed: 3, Calibration: mix}, Target: search.Ratio(0.7)}}
	if got, err := s.resumed(StartSearch{Resume: true}); err != nil || !reflect.DeepEqual(got.Calibration, mix) {
		t.Errorf("a mix is resumed with %+v, error %v", got.Calibration, err)
	}
}

// TestRecipeCalibrates rebuilds recipes of one text and of a mix.
func TestRecipeCalibrates(t *testing.T) {
	old := Method{Text: TextRef{Path: "gone.txt"}, Windows: 6, Seq: 32, Seed: 2}
	got, err := BuildRecipe{Path: "r.json"}.calibration(old)
	if err != nil || !reflect.DeepEqual(got, Calibration{Text: TextWiki, Windows: 6, Seq: 32, Seed: 2, Draw: DrawStart, ComputeType: "f32"}) {
		t.Errorf("of an earlier version: %+v, error %v", got, err)
	}
	mixed := Method{Windows: 6, Drawn: 20, Seq: 32, Seed: 2, Draw: DrawWhole, Mix: []MixPart{{Name: TextWiki, Share: 0.5}, {Name: "notes", Text: "gone.txt", Share: 0.5}}}
	if _, err := (BuildRecipe{Path: "r.json"}).calibration(mixed); err == nil {
		t.Error("a text that is missing is not reported")
	}
	given := BuildRecipe{Path: "r.json", Mix: []MixText{{Name: "notes", Path: "here.txt"}}}
	want := Calibration{Windows: 6, Of: 20, Seq: 32, Seed: 2, Draw: DrawWhole, ComputeType: "f32", Mix: []MixText{{Name: TextWiki, Share: 0.5}, {Name: "notes", Path: "here.txt", Share: 0.5}}}
	if got, err := given.calibration(mixed); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("of a mix: %+v, error %v", got, err)
	}
	for name, c := range map[string]struct {
		by Method
		c  BuildRecipe
	}{
		"a name that the mix lacks": {mixed, BuildRecipe{Mix: []MixText{{Name: "notes", Path: "a"}, {Name: "other", Path: "b"}}}},
		"one text for a mix":        {mixed, BuildRecipe{Text: "a", Mix: []MixText{{Name: "notes", Path: "a"}}}},
		"a mix for one text":        {old, BuildRecipe{Mix: []MixText{{Name: "notes", Path: "a"}}}},
	} {
		if c.c.checkTexts([]Method{c.by}) == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := (BuildRecipe{Text: "a", Mix: []MixText{{Name: "notes", Path: "b"}}}).checkTexts([]Method{old, mixed}); err != nil {
		t.Errorf("texts of a re-fit and of a tuning: %v", err)
	}
}
