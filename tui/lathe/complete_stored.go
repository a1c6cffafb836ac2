package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
)

// stored returns candidates from the state of the workspace of the model among the arguments, or of the default model.
func (a *app) stored(words func(s *explorer.Snapshot, cmd *cobra.Command, word string) []string) candidates {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		s, err := a.peek(cmd, args)
		if err != nil {
			return nil, ended
		}
		return begin(word, words(s, cmd, word))
	}
}

// peek returns the state of a workspace. It downloads, converts and changes nothing.
func (a *app) peek(cmd *cobra.Command, args []string) (*explorer.Snapshot, error) {
	quiet, model, err := a.aside(cmd, args)
	if err != nil {
		return nil, err
	}
	e, err := quiet.openExploration(cmd.Context(), model, readOnly)
	if err != nil {
		return nil, err
	}
	s := e.Snapshot()
	return s, e.Close()
}

// aside returns an app for work beside a command that is being typed, which writes nothing and stays off the network, and the
// GGUF file of the model that the command names.
func (a *app) aside(cmd *cobra.Command, args []string) (*app, string, error) {
	quiet := *a
	quiet.stdout, quiet.stderr, quiet.command = io.Discard, io.Discard, nil
	quiet.getenv = func(name string) string {
		if name == "HF_HUB_OFFLINE" {
			return "1"
		}
		return a.getenv(name)
	}
	var given []string
	if i := slices.Index(placeholders(cmd), "MODEL"); i >= 0 && i < len(args) {
		given = args[i : i+1]
	}
	model, err := quiet.modelArg(given)
	if err != nil {
		return nil, "", err
	}
	s, err := quiet.lookUp(cmd.Context(), model)
	if err != nil || s.gguf != "" {
		return &quiet, s.gguf, err
	}
	path, err := quiet.convertedPath(s)
	if err != nil {
		return nil, "", err
	}
	if _, err := os.Stat(path); err != nil { // it would have to be converted first
		return nil, "", err
	}
	return &quiet, path, nil
}

// subnetsOf returns the subnets that a command can be about: their ids, and the names that begin with what is typed.
func (a *app) subnetsOf(cmd *cobra.Command) candidates {
	return a.stored(func(s *explorer.Snapshot, _ *cobra.Command, word string) []string {
		var words []string
		of := s.Subnets
		switch cmd.Name() {
		case "rename", "delete", "note":
		case "restore":
			of = s.Trash
		default:
			words = append(words, string(explorer.DenseID)+"\tthe whole model", string(explorer.DraftID)+"\tthe masks that are being edited")
		}
		for _, n := range of {
			words = append(words, string(n.ID)+"\t"+subnetWords(n))
		}
		for _, n := range of {
			if word != "" && strings.HasPrefix(n.Name, word) {
				words = append(words, n.Name+"\t"+string(n.ID))
			}
		}
		return words
	})
}

// subnetWords describes a subnet in a few words.
func subnetWords(n explorer.Subnet) string {
	words := fmt.Sprintf("%s, %.3f of the block parameters, %s", n.Name, n.Size.Ratio, format.Bytes(n.Bytes))
	if f := n.Figure(); f.Relative > 0 {
		words += fmt.Sprintf(", %.3f × dense", f.Relative)
	}
	return words
}

func chatWords(s *explorer.Snapshot, _ *cobra.Command, _ string) []string {
	var words []string
	for _, c := range s.Chats {
		words = append(words, string(c.ID)+"\t"+c.Name)
	}
	return words
}

func benchWords(s *explorer.Snapshot, _ *cobra.Command, _ string) []string {
	var words []string
	for _, b := range s.Benches {
		var of []string
		for _, id := range b.Settings.Subnets {
			of = append(of, string(id))
		}
		words = append(words, string(b.ID)+"\t"+strings.Join(of, ", "))
	}
	return words
}

// frontWords lists the front of the last search.
func frontWords(s *explorer.Snapshot, _ *cobra.Command, _ string) []string {
	words := []string{"best"}
	for _, c := range newFront(s.Search).Candidates {
		words = append(words, fmt.Sprintf("%d\t%.3f of the block parameters, fitness %.4f", c.ID, c.Share, c.Score))
	}
	return words
}

// setWords returns words for a set such as 0-3,7 of n units, of which the last number is completed.
func setWords(word string, n int) []string {
	at := strings.LastIndexAny(word, ",-") + 1
	words := numbers(word[:at], n)
	if at == 0 {
		words = append([]string{"all", "none"}, words...)
	}
	return words
}

// layersOf and the functions after it return the units of a model.
func layersOf(s *explorer.Snapshot) int { return len(s.Model.Geometry.Layers) }

func headsOf(s *explorer.Snapshot) (n int) {
	for _, l := range s.Model.Geometry.Layers {
		n = max(n, l.Heads)
	}
	return n
}

func groupsOf(s *explorer.Snapshot) (n int) {
	for _, l := range s.Model.Geometry.Layers {
		n = max(n, l.KVHeads)
	}
	return n
}

// sets returns candidates for a set of units.
func (a *app) sets(of func(*explorer.Snapshot) int) candidates {
	return a.stored(func(s *explorer.Snapshot, _ *cobra.Command, word string) []string { return setWords(word, of(s)) })
}

// units returns candidates for one unit.
func (a *app) units(of func(*explorer.Snapshot) int) candidates {
	return a.stored(func(s *explorer.Snapshot, _ *cobra.Command, _ string) []string { return numbers("", of(s)) })
}

func numbers(prefix string, n int) []string {
	words := make([]string, n)
	for i := range words {
		words[i] = prefix + strconv.Itoa(i)
	}
	return words
}

// jobs returns the jobs of the process that holds the workspace, which its status lists.
func (a *app) jobs(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	quiet, model, err := a.aside(cmd, args)
	if err != nil {
		return nil, ended
	}
	var out bytes.Buffer
	quiet.stdout = &out
	line := []string{"status", "--json"}
	if a.workspace != "" {
		line = append(line, "--workspace", a.workspace)
	}
	var r struct {
		Jobs []jobResult `json:"jobs"`
	}
	if quiet.execute(cmd.Context(), append(line, "--", model)) != exitOK || json.Unmarshal(out.Bytes(), &r) != nil {
		return nil, ended
	}
	var words []string
	for _, j := range r.Jobs {
		words = append(words, j.ID+"\t"+j.Title)
	}
	return begin(word, words)
}
