package remote

import (
	"bytes"
	"container/heap"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "update the files that tests compare with")

// costs are what the exchange costs, in seconds. The defaults were measured by BenchmarkOverhead on two cores, with a server that syncs
// every message: see ../docs/workers.md.
type costs struct {
	publish float64 // of the search, for each task, besides the wait until it is stored
	collect float64 // of the search, for each result: received, checked and passed to the strategy
	store   float64 // of the server, for each task and each result: written and synced, one after another
	take    float64 // of a worker, for each task: from the request for one to the first candidate, and the acknowledgement
	network float64 // one way between the machines
}

func measured() costs {
	return costs{publish: 0.3e-3, collect: 0.1e-3, store: 2.8e-3, take: 1.0e-3, network: 0.25e-3}
}

// load is what a search hands out: batches, one after another, of so many candidates of so many seconds each.
type load struct {
	name    string
	batches []loadBatch
}

type loadBatch struct {
	candidates int
	seconds    float64
}

// spread is the standard deviation of the logarithm of the time of a candidate, and slowest of the speed of a worker.
const (
	spread  = 0.15
	slowest = 0.1
)

// event is something that happens in the simulation.
type event struct {
	at   float64
	what int // one of the constants below
	who  int // worker
	n    int // candidates
}

const (
	published = iota // the search has published a task of n candidates
	scored           // worker who has scored a candidate, of a task that has n more
	arrived          // a result has reached the search
	handled          // the search has passed a result on
	done             // worker who has no task any more
)

type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at < e[j].at }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}

// simulation is a search with workers, as discrete events. The policy of tasks is that of the program: crew.batchSize and taskAhead.
type simulation struct {
	c       costs
	rng     *rand.Rand
	speed   []float64 // of each worker
	now     float64
	queue   events
	busy    float64 // until when the search is busy
	disk    float64 // until when the server writes
	waiting []int   // sizes of the tasks that nobody has taken
	idle    []int   // workers without a task
	work    float64 // seconds of scoring
	coord   float64 // seconds that the search was busy
	written float64 // seconds that the server wrote
}

// simulate returns which share of the time of so many workers is spent on scoring, and whether the search or the server is busy more than
// nine tenths of the time.
func simulate(workers int, l load, c costs) (efficiency float64, saturated string) {
	s := &simulation{c: c, rng: rand.New(rand.NewPCG(uint64(workers), 1))}
	for i := range workers {
		s.speed = append(s.speed, math.Exp(slowest*s.rng.NormFloat64()))
		s.idle = append(s.idle, i)
	}
	for _, b := range l.batches {
		s.batch(b)
	}
	switch {
	case s.written > 0.9*s.now:
		saturated = "†"
	case s.coord > 0.9*s.now:
		saturated = "*"
	}
	return s.work / (s.now * float64(workers)), saturated
}

// store has the server write a message and returns when it is synced.
func (s *simulation) store() float64 {
	s.disk = max(s.disk, s.now) + s.c.store
	s.written += s.c.store
	return s.disk
}

// occupy has the search do something for so long, after what it does already, and adds the event at its end.
func (s *simulation) occupy(seconds float64, e event) {
	s.busy = max(s.busy, s.now) + seconds
	s.coord += seconds
	e.at = s.busy
	heap.Push(&s.queue, e)
}

// batch simulates one call of Evaluate.
func (s *simulation) batch(b loadBatch) {
	left, open, tasks, pending := b.candidates, b.candidates, 0, false
	publish := func() {
		n := len(s.speed)
		if left == 0 || pending || tasks >= taskAhead*n {
			return
		}
		size := crew{ready: n, seconds: b.seconds}.batchSize(left)
		left -= size
		tasks++
		pending = true
		s.occupy(s.c.publish+s.store()-s.now+2*s.c.network, event{what: published, n: size})
	}
	publish()
	for open > 0 {
		e := heap.Pop(&s.queue).(event)
		s.now = e.at
		switch e.what {
		case published:
			pending = false
			s.waiting = append(s.waiting, e.n)
		case scored:
			stored := s.store()
			heap.Push(&s.queue, event{at: s.now + s.c.network, what: arrived})
			if e.n == 0 { // the task is acknowledged when its results are stored
				heap.Push(&s.queue, event{at: stored + s.c.take/2 + s.c.network, what: done, who: e.who})
			}
		case arrived:
			s.occupy(s.c.collect, event{what: handled})
		case handled:
			open--
		case done:
			s.idle = append(s.idle, e.who)
			tasks--
		}
		for len(s.idle) > 0 && len(s.waiting) > 0 {
			s.start(s.idle[0], s.waiting[0], b.seconds)
			s.idle, s.waiting = s.idle[1:], s.waiting[1:]
		}
		publish()
	}
	for s.queue.Len() > 0 { // acknowledgements of the last tasks
		if e := heap.Pop(&s.queue).(event); e.what == done {
			s.idle = append(s.idle, e.who)
		}
	}
}

// start has a worker score a task.
func (s *simulation) start(who, n int, seconds float64) {
	at := s.now + s.c.take/2 + s.c.network
	for i := range n {
		d := seconds * s.speed[who] * math.Exp(spread*s.rng.NormFloat64())
		s.work += d
		at += d
		heap.Push(&s.queue, event{at: at, what: scored, who: who, n: n - 1 - i})
	}
}

// generations repeats the batches of a generation.
func generations(n int, batches ...loadBatch) []loadBatch {
	var out []loadBatch
	for range n {
		out = append(out, batches...)
	}
	return out
}

// ladderLoad are generations of the strategy ladder with so many children: all of them and the parent on a quarter of the text of the
// second tier, one in four of them on that, and half of those on the last.
func ladderLoad(children int, seconds float64) load {
	second := (children + 3) / 4
	return load{fmt.Sprintf("ladder, %d children", children), generations(8,
		loadBatch{children + 1, seconds / 4}, loadBatch{second + 1, seconds}, loadBatch{(second + 1) / 2, 4 * seconds})}
}

func paperLoad(population int, seconds float64) load {
	return load{fmt.Sprintf("paper, population %d", population), generations(5, loadBatch{population, seconds})}
}

// crews are the numbers of workers that are simulated.
var crews = []int{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000}

// TestSimulation simulates searches with up to 1,000 workers and compares the table and the chart with those of the documentation.
func TestSimulation(t *testing.T) {
	var out bytes.Buffer
	out.WriteString("| load |")
	for _, n := range crews {
		fmt.Fprintf(&out, " %d |", n)
	}
	out.WriteString("\n|---|" + strings.Repeat("---|", len(crews)) + "\n")
	fast := measured()
	fast.store /= 10
	rows := []struct {
		name string
		l    load
		c    costs
	}{
		{"", ladderLoad(16, 2), measured()},
		{"", ladderLoad(128, 2), measured()},
		{"", paperLoad(100, 2), measured()},
		{"", paperLoad(1000, 2), measured()},
		{"", paperLoad(10000, 2), measured()},
		{", 20 s a candidate", paperLoad(10000, 20), measured()},
		{", a disk ten times as fast", paperLoad(10000, 2), fast},
		{", 0.1 s a candidate", paperLoad(10000, 0.1), measured()},
	}
	var chart [][]float64
	var saturated []string
	for _, r := range rows {
		fmt.Fprintf(&out, "| %s%s |", r.l.name, r.name)
		var line []float64
		for _, n := range crews {
			e, saturated := simulate(n, r.l, r.c)
			fmt.Fprintf(&out, " %.0f %%%s |", 100*e, saturated)
			line = append(line, e)
			if e < 0 || e > 1 || math.IsNaN(e) {
				t.Errorf("%s: %d workers: efficiency %v", r.l.name, n, e)
			}
		}
		out.WriteString("\n")
		chart = append(chart, line)
		saturated = append(saturated, r.l.name+r.name)
	}
	out.WriteString("\nColumns are numbers of workers; entries are the share of the workers' time that is spent on scoring. * marks entries for which the search\nitself, † those for which the server's disk is busy more than 90 % of the time.\n\n")
	drawChart(&out, chart, saturated)
	if one, _ := simulate(1, paperLoad(100, 2), measured()); one < 0.97 {
		t.Errorf("one worker has an efficiency of %.3f", one)
	}
	if few, many := chart[4][3], chart[4][10]; few < 0.9 || many > few {
		t.Errorf("population 10000: efficiency %.3f with 8 workers and %.3f with 1000", few, many)
	}
	checkDoc(t, "../docs/workers.md", out.String())
}

// drawChart draws efficiencies as text, a row for each of ten steps.
func drawChart(out *bytes.Buffer, chart [][]float64, names []string) {
	const height, width = 10, 6
	out.WriteString("```\n")
	for row := height; row >= 0; row-- {
		fmt.Fprintf(out, "%4d %% |", 100*row/height)
		for at := range crews {
			cell := []byte(strings.Repeat(" ", width))
			for k, line := range chart {
				if int(math.Round(line[at]*height)) == row && k < width {
					cell[k] = byte('a' + k)
				}
			}
			out.Write(cell)
		}
		out.WriteString("\n")
	}
	out.WriteString("       +" + strings.Repeat("-", width*len(crews)) + "\n        ")
	for _, n := range crews {
		fmt.Fprintf(out, "%-*d", width, n)
	}
	out.WriteString(" workers\n\n")
	for k, name := range names[:min(width, len(names))] {
		fmt.Fprintf(out, "%c  %s\n", 'a'+k, name)
	}
	out.WriteString("```\n")
}

// The generated part of a document is between these lines.
const (
	docBegin = "<!-- simulation: go test ./search/remote -run TestSimulation -update -->\n"
	docEnd   = "<!-- end of the simulation -->\n"
)

// checkDoc compares the generated part of a document, or replaces it with -update.
func checkDoc(t *testing.T, path, want string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), docBegin)
	got, after, ended := strings.Cut(rest, docEnd)
	if !ok || !ended {
		t.Fatalf("%s has no place for the simulation", path)
	}
	if *update {
		if err := os.WriteFile(path, []byte(before+docBegin+want+docEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != want {
		t.Errorf("%s differs from the simulation: run go test ./search/remote -run TestSimulation -update\n%s", path, want)
	}
}
