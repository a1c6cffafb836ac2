package explorer

import (
	"cmp"
	"fmt"
	"time"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// A Snapshot is everything a viewer can show at one moment. It is immutable: neither it nor anything reachable from it
// changes after it was published, so it may be kept, compared by Revision and read from any goroutine.
type Snapshot struct {
	Revision uint64   // grows with every publication
	Sections Sections // the revision at which each section last changed: what a drawn pane may be cached by

	Model      ModelInfo
	Workspace  WorkspaceInfo
	Jobs       []Job // running or paused first, then queued in order, then the last few that ended, newest first
	Statistics Statistics
	Search     Search
	// Preparation is that of the newest search, also before Search is of it.
	Preparation Preparation
	// Answers are those of the newest search that had a prompt.
	Answers    Answers
	Unfinished *Unfinished  // nil: no search is under way, nor was one interrupted
	Ended      *EndedSearch // the search that was over last, in this process or an earlier one; nil: none, or one is under way
	Subnets    []Subnet     // not deleted, newest first
	Trash      []Subnet     // deleted and still restorable, last deleted first
	Draft      Draft
	Reform     Reform
	Chats      []Chat  // newest first
	Benches    []Bench // newest first
	Messages   []Message
	Presence   []Viewer
}

// A Section is a part of a snapshot that changes as one.
type Section int

// The sections of a snapshot. Unfinished, Ended, Preparation and Answers belong to the search, the trash to the subnets.
const (
	SectionModel Section = iota
	SectionWorkspace
	SectionJobs
	SectionStatistics
	SectionSearch
	SectionSubnets
	SectionDraft
	SectionReform
	SectionChats
	SectionBenches
	SectionMessages
	SectionPresence
	sectionCount
)

// Sections holds, for each section of a snapshot, the revision at which it last changed.
type Sections [sectionCount]uint64

// kept reports whether records change the section: then every change of it waits for those before it to be on the disk.
func (s Section) kept() bool {
	switch s {
	case SectionModel, SectionSubnets, SectionDraft, SectionChats, SectionBenches:
		return true
	default: // nothing for the others
	}
	return false
}

// takeLive gives a snapshot whose kept sections were changed by records everything else as it is in now.
func (s *Snapshot) takeLive(now *Snapshot) {
	s.Revision, s.Sections = now.Revision, now.Sections
	s.Workspace, s.Jobs, s.Statistics, s.Search, s.Preparation = now.Workspace, now.Jobs, now.Statistics, now.Search, now.Preparation
	s.Answers = now.Answers
	s.Reform, s.Messages, s.Presence = now.Reform, now.Messages, now.Presence
}

// ModelInfo describes the dense model. Geometry is nil until the model's header was read.
type ModelInfo struct {
	Path         string
	Name         string // general.name of the file, else the file's name
	Arch         string // architecture as the file names it: "llama", "qwen2", …
	FileType     string // predominant tensor type: "Q4_1", "F16", …
	TypeName     string // of the file as its maker names it: "Q4_K_M"; "" as FileType
	Bytes        int64  // the file's size
	Params       int64  // all parameters, embeddings included
	BlockParams  int64  // parameters of the decoder blocks' matrices
	Layers       int
	Hidden       int
	Context      int // context length the model was made for, in tokens
	Vocab        int
	Tied         bool    // the output matrix is the embedding
	ChatTemplate bool    // the file carries a chat template
	SubnetOf     string  // source named in a file that lathe cut; "" for a dense model
	Share        float64 // of the source's block parameters that such a file keeps
	Fingerprint  string  // identifies the file's content (header, size and samples), hexadecimal
	Geometry     *subnet.Geometry
	Compute      string        // backend that search and reform run on, as it describes itself; "" until it was opened
	Algebra      string        // what computes the linear algebra of re-fits there: "go" for the processor's kernels, "xla" for the device
	Engine       string        // engine that chat and bench run on
	Files        FileSizes     // sizes of files of subnets; nil where they are not known
	GPU          string        // how many of its layers run on GPUs there: "off", "auto" or a number
	NoRuntime    string        // why that engine runs neither the model nor its subnets; "" where it does
	WholeVocab   string        // why its vocabulary cannot be trimmed; "" where it can
	Measurements []Measurement // of the dense model, newest first
}

// FileSizes computes sizes of files of subnets without writing them, as [gguf.Sizes] does. It may be used concurrently.
type FileSizes interface {
	Of(m subnet.Masks, r gguf.Refitted, typ string) (gguf.FileSize, error)
	OfTypes(m subnet.Masks, r gguf.Refitted, types map[string]subnet.Type) (gguf.FileSize, error)
}

// FileSize returns the size of the file of masks with matrices of a type, "" for the types of the source. Besides the dense model's, the output
// matrices are taken as re-fitted. It is zero where it is not known, or where no file can hold the subnet.
func (m *ModelInfo) FileSize(masks subnet.Masks, typ string) gguf.FileSize {
	dense := masks.Geometry() != nil && masks.Equal(subnet.Dense(masks.Geometry()))
	return m.fileSize(masks, gguf.Refitted{Outputs: !dense}, typ)
}

// sizeOf returns the size of the file of masks with the re-fitted weights of a subnet, in its types where typ is "".
func (m *ModelInfo) sizeOf(n *Subnet, masks subnet.Masks, typ string) gguf.FileSize {
	if m.Files == nil || n.Types == nil || typ != "" {
		return m.fileSize(masks, n.refitted(), typ)
	}
	size, err := m.Files.OfTypes(masks, n.refitted(), n.Types)
	if err != nil {
		return gguf.FileSize{}
	}
	return size
}

// SubnetSize returns the size of the file of a subnet of the library in its own types.
func (m *ModelInfo) SubnetSize(n *Subnet) gguf.FileSize { return m.sizeOf(n, n.Masks, "") }

func (m *ModelInfo) fileSize(masks subnet.Masks, r gguf.Refitted, typ string) gguf.FileSize {
	if m.Files == nil {
		return gguf.FileSize{}
	}
	size, err := m.Files.Of(masks, r, typ)
	if err != nil {
		return gguf.FileSize{}
	}
	return size
}

// ExportBytes returns the size of the file that exporting a subnet writes, 0 where it is not known. typ is that of the matrices, "" for the types of
// the source.
func (s *Snapshot) ExportBytes(id SubnetID, typ string) int64 {
	masks, err := s.Masks(id)
	if err != nil {
		return 0
	}
	if n, ok := s.Subnet(id); ok {
		return s.Model.sizeOf(&n, masks, typ).WithProvenance(n.provenance())
	}
	if n, ok := s.Subnet(s.Draft.Base); ok && id == DraftID && n.Refit != "" {
		return s.Model.sizeOf(&n, masks, typ).File
	}
	return s.Model.FileSize(masks, typ).File
}

// refitted returns which weights of the subnet are re-fitted.
func (n *Subnet) refitted() gguf.Refitted {
	if n.Refit == "" {
		return gguf.Refitted{}
	}
	return gguf.Refitted{Outputs: true, Up: n.Method.Up > 0 || n.Method.Gradient > 0, Biases: n.Method.Bias}
}

// Type returns the name of the file's type.
func (m *ModelInfo) Type() string { return cmp.Or(m.TypeName, m.FileType) }

// Runs returns nil if an engine runs the model, or else ErrUnsupported with the reason.
func (m *ModelInfo) Runs() error {
	if m.NoRuntime == "" {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrUnsupported, m.NoRuntime)
}

// WorkspaceInfo describes the folder that the exploration is kept in.
type WorkspaceInfo struct {
	Path     string
	ReadOnly bool
	Holder   string // who holds it when read-only: "process 1234 on host" or "opened read-only"
	Bytes    int64  // on disk when last counted
	// Paused is why the job of the process that holds it is paused although nobody paused it; "" where none is, or where this
	// process holds it: then the job has the reason.
	Paused string
}

// MessageLevel orders messages by how much they matter.
type MessageLevel int

// The levels of a message.
const (
	Info MessageLevel = iota
	Warning
	Failure
)

// A Message reports an event to viewers. It stays in the snapshot until it is dismissed or newer ones displace it.
type Message struct {
	ID     uint64
	At     time.Time
	Level  MessageLevel
	Author string // the actor who caused it; "" for the program itself
	Text   string // one line
}

// A Viewer is somebody attached to the exploration.
type Viewer struct {
	Name  string
	Role  Role
	Since time.Time
	Where string // the screen they look at, as they reported it
}
