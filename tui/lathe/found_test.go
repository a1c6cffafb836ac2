//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestFoundByAnotherProcess searches in one process and has others list the front, choose from it and add to the library, on this
// machine and over SSH.
func TestFoundByAnotherProcess(t *testing.T) {
	m := newTeam(t)
	text, workspace := m.path("cache", "text", "wiki.utf8"), m.path("workspace")
	search := func(more ...string) {
		t.Helper()
		out, words, status := m.lathe(append([]string{"search", m.model, "--budget", "evals=120", "--seq", "32", "--windows", "4", "--text", text, "--workspace", workspace}, more...)...)
		if status != exitOK {
			t.Fatalf("search: status %d\n%s%s", status, out, words)
		}
	}
	search("--target", "0.7")
	here := func(args ...string) (string, string, int) {
		return m.lathe(append(args, m.model, "--workspace", workspace, "--json")...)
	}
	fit := func(out string) (r fitResult) {
		t.Helper()
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return r
	}
	out, words, status := here("fit", "--memory", "100GB", "--context", "64")
	dense := fit(out)
	if status != exitOK || dense.Subnet != "dense" || dense.Candidate != 0 {
		t.Errorf("where the dense model fits: status %d, %s%s", status, out, words)
	}
	if _, words, status := here("subnets", "delete", "s1"); status != exitOK { // so that the choice is among the front
		t.Fatalf("status %d, %s", status, words)
	}
	less := fmt.Sprint(dense.Memory - 1)
	out, _, status = here("fit", "--memory", less, "--context", "64")
	chosen := fit(out)
	if status != exitOK || chosen.Subnet != "" || chosen.Candidate == 0 || chosen.Memory >= dense.Memory || chosen.Relative <= 0 {
		t.Errorf("from the front: status %d, %s", status, out)
	}
	out, words, status = here("fit", "--memory", less, "--context", "64", "--adopt", "--name", "small")
	adopted := fit(out)
	if status != exitOK || adopted.Candidate != chosen.Candidate || adopted.Subnet == "" || adopted.Name != "small" {
		t.Errorf("adopted: status %d, %s%s", status, out, words)
	}
	if out, _, _ := here("fit", "--memory", less, "--context", "64", "--adopt"); fit(out).Subnet != adopted.Subnet {
		t.Errorf("adopted again: %s", out)
	}
	if _, words, status := here("fit", "--memory", less, "--name", "small"); status != exitUsage || !strings.Contains(words, "--adopt") {
		t.Errorf("a name alone: status %d, %s", status, words)
	}

	s := m.serve("workspace")
	s.until("statistics", func(r statusResult) bool { return len(r.Jobs) == 0 })
	out, words, status = s.ssh("vera", "search", "front", "--json")
	var front frontResult
	if err := json.Unmarshal([]byte(out), &front); err != nil || status != exitOK || len(front.Candidates) == 0 {
		t.Fatalf("front over SSH: status %d, %v, %s%s", status, err, out, words)
	}
	one := front.Candidates[len(front.Candidates)/2]
	if _, words, status := s.ssh("vera", "search", "adopt", fmt.Sprint(one.ID)); status != exitUsage || !strings.Contains(words, "role editor") {
		t.Errorf("adopted by a viewer: status %d, %s", status, words)
	}
	out, words, status = s.ssh("ed", "search", "adopt", fmt.Sprint(one.ID), "--name", "remote", "--json")
	var got adoptResult
	if err := json.Unmarshal([]byte(out), &got); err != nil || status != exitOK || got.Name != "remote" || got.Candidate != one.ID || got.Share != one.Share || !got.Refitted && one.Share < 1 {
		t.Errorf("adopted over SSH: status %d, %v, %s%s", status, err, out, words)
	}
	out, words, status = s.ssh("vera", "fit", "--memory", less, "--context", "64", "--json")
	if r := fit(out); status != exitOK || r.Candidate != chosen.Candidate {
		t.Errorf("fit over SSH: status %d, %s%s", status, out, words)
	}
	out, words, status = s.ssh("ed", "fit", "--memory", less, "--context", "64", "--adopt", "--json")
	if r := fit(out); status != exitOK || r.Subnet != adopted.Subnet {
		t.Errorf("adopted by fit over SSH: status %d, %s%s", status, out, words)
	}
	if status := s.end(syscall.SIGTERM); status != exitOK {
		t.Errorf("exit status %d\n%s", status, s.log)
	}

	// Levels are bounded on the disk, and their size is shown.
	var state searchStatus
	if out, words, status := here("search", "status"); status != exitOK || json.Unmarshal([]byte(out), &state) != nil || state.Levels <= 0 || state.Space <= state.Levels {
		t.Errorf("levels: status %d, %s%s", status, out, words)
	}
	out, words, status = m.lathe("search", m.model, "--levels-space", "1kB", "--budget", "evals=9", "--text", text, "--workspace", workspace)
	if status != exitUsage || !strings.Contains(words, "they need 0.") || !strings.Contains(words, "--levels-space") {
		t.Errorf("levels beyond their bound: status %d\n%s%s", status, out, words)
	}

	// A front of another version is refused and kept, also by the next search.
	view := m.path("workspace", "search", "view.json")
	text2, err := os.ReadFile(view)
	if err != nil {
		t.Fatal(err)
	}
	other := strings.Replace(string(text2), `"Version":1`, `"Version":99`, 1)
	m.write(other, 0o600, "workspace", "search", "view.json")
	for _, args := range [][]string{{"search", "front"}, {"search", "adopt", "best"}, {"search", "status"}} {
		if _, words, status := here(args...); status != exitInput || !strings.Contains(words, "version 99") || !strings.Contains(words, view) {
			t.Errorf("%v of another version: status %d, %s", args, status, words)
		}
	}
	if now, err := os.ReadFile(view); err != nil || string(now) != other {
		t.Errorf("the front of another version was changed, %v", err)
	}
	search("--target", "0.8")
	if kept, err := os.ReadFile(view + ".unread"); err != nil || string(kept) != other {
		t.Errorf("the front of another version was not kept: %v", err)
	}
	if out, _, status := here("search", "front"); status != exitOK || !strings.Contains(out, `"target":0.8`) {
		t.Errorf("the next front: status %d, %s", status, out)
	}
}
