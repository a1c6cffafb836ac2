package tui

import (
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
)

// TestLibraryTellsRowsApart gives two subnets one name and measures one on another text: both show in the table.
func TestLibraryTellsRowsApart(t *testing.T) {
	b := explorertest.New()
	ex := explorertest.Filled(t, b)
	all := ex.Snapshot().Subnets
	imported, cut := all[0], all[len(all)-1]
	explorertest.Do(t, ex, explorer.RenameSubnet{Subnet: imported.ID, Name: cut.Name})
	for _, id := range []explorer.SubnetID{explorer.DenseID, imported.ID} {
		explorertest.Do(t, ex, explorer.Measure{Subnet: id, Text: "other.utf8", Seq: 2048, Windows: 4})
	}
	explorertest.Quiet(t, ex)
	l := newLoopOver(t, ex, b, 120, 40, nil)
	l.press("esc", "6")
	for _, want := range []string{"(" + string(imported.ID) + ")", "(" + string(cut.ID) + ")", "* not on wiki.utf8", "other.utf8"} {
		if !strings.Contains(l.screen(), want) {
			t.Errorf("no %q in the library:\n%s", want, l.screen())
		}
	}
	marked := 0
	for _, row := range strings.Split(l.screen(), "\n") {
		if strings.Contains(row, "*  ") && strings.Contains(row, "MB") {
			marked++
		}
	}
	if marked != 1 {
		t.Errorf("%d figures are marked as of another text:\n%s", marked, l.screen())
	}
}
