package explorertest_test

import (
	"reflect"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
)

func TestFilledHasEverythingAScreenShows(t *testing.T) {
	s := explorertest.Filled(t, explorertest.New()).Snapshot()
	if !s.Statistics.Ready || len(s.Search.Cloud) < 200 || len(s.Search.Front) < 2 || s.Search.Best == nil {
		t.Errorf("statistics %v, %d points, front of %d", s.Statistics.Ready, len(s.Search.Cloud), len(s.Search.Front))
	}
	origins := map[explorer.Origin]bool{}
	for _, n := range s.Subnets {
		origins[n.Origin] = true
	}
	if len(s.Subnets) != 5 || len(origins) != 5 {
		t.Errorf("%d subnets of origins %v", len(s.Subnets), origins)
	}
	if len(s.Draft.Steps) != 3 || len(s.Draft.Undone) != 1 || s.Draft.Measured == nil || !s.Draft.Estimate.Valid || s.Draft.Estimate.Compared == 0 {
		t.Errorf("draft %+v", s.Draft.Estimate)
	}
	if s.Reform.Result == "" || len(s.Reform.Layers) != s.Model.Layers {
		t.Errorf("reform result %q, %d layers", s.Reform.Result, len(s.Reform.Layers))
	}
	if len(s.Chats) != 1 || len(s.Chats[0].Columns) != 2 || len(s.Chats[0].Columns[1].Replies) != 2 {
		t.Fatalf("chats %+v", s.Chats)
	}
	for i, column := range s.Chats[0].Columns {
		for j, r := range column.Replies {
			if r.Text == "" || r.Err != "" || r.TokensPerSecond == 0 || r.Streaming {
				t.Errorf("column %d reply %d: %+v", i, j, r)
			}
		}
	}
	if r := s.Chats[0].Columns[1].Replies[1]; r.Agreement < 0 {
		t.Errorf("agreement %g", r.Agreement)
	}
	if len(s.Benches) != 1 || !s.Benches[0].Done || s.Benches[0].Rows[8].Speed.Mean == 0 {
		t.Errorf("benches %+v", s.Benches)
	}
	for _, j := range s.Jobs {
		if j.State != explorer.Done {
			t.Errorf("job %s: %s %s", j.Title, j.State, j.Err)
		}
	}
}

func TestFilledIsTheSameEveryTime(t *testing.T) {
	a := explorertest.Filled(t, explorertest.New()).Snapshot()
	b := explorertest.Filled(t, explorertest.New()).Snapshot()
	if !reflect.DeepEqual(a.Search, b.Search) || !reflect.DeepEqual(a.Subnets, b.Subnets) || !reflect.DeepEqual(a.Draft, b.Draft) ||
		!reflect.DeepEqual(a.Chats, b.Chats) || !reflect.DeepEqual(a.Benches, b.Benches) {
		t.Error("two filled explorations differ")
	}
}
