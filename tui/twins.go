package tui

import "github.com/lathe-llm/lathe/tui/internal/action"

// An ActionInfo describes an action of the interface for the command line.
type ActionInfo struct {
	ID, Scope string
	Keys      []string
	Title     string
	// Command is the command, with the flag that matters, that does the same without the interface: "masks set --drop". It is
	// empty for an action that only concerns the screen, which Local describes.
	Command, Local string
}

// Actions returns all actions in the order of the help, with their default keys.
func Actions() []ActionInfo {
	m := &Model{}
	m.screens = newScreens(host{m})
	var out []ActionInfo
	for _, a := range m.table() {
		out = append(out, ActionInfo{a.ID, a.Scope, a.Keys, a.Title, commands()[a.ID], local(a)})
	}
	return out
}

// What actions without a command concern.
const (
	moves   = "moves the cursor, scrolls or zooms"
	selects = "selects what other actions act on"
	shows   = "changes only what this screen shows"
	opens   = "closes this explorer and opens another, as `lathe MODEL --workspace FOLDER` does"
)

// local returns why an action has no command, "" if it has one or is in no table.
func local(a *action.Action) string {
	switch a.ID {
	case "screen.search", "screen.masks", "screen.reform", "screen.chat", "screen.bench", "screen.library",
		"search.first", "search.last", "search.down", "search.up", "search.pagedown", "search.pageup", "search.left", "search.right", "search.next", "search.previous",
		"masks.in", "masks.out", "masks.block", "masks.blockback", "masks.down", "masks.up", "masks.pagedown", "masks.pageup", "masks.first", "masks.last",
		"reform.first", "reform.last", "reform.down", "reform.up", "reform.pagedown", "reform.pageup",
		"chat.next", "chat.previous", "chat.down", "chat.up", "chat.pagedown", "chat.pageup", "chat.first", "chat.last",
		"bench.first", "bench.last", "bench.down", "bench.up", "bench.pagedown", "bench.pageup",
		"library.down", "library.up", "library.pagedown", "library.pageup", "library.first", "library.last":
		return moves
	case "masks.range", "masks.all", "masks.extenddown", "masks.extendup", "masks.extendright", "masks.extendleft", "masks.finer", "masks.coarser", "library.mark":
		return selects
	case "palette", "find", "search.zoom", "mouse", "tour", "redraw", "quit", "search.log", "masks.sort", "chat.shade", "chat.alone", "bench.chart", "library.sort", "library.reverse":
		return shows
	case "open":
		return opens
	}
	return ""
}

// commands returns the commands of actions, by their names.
func commands() map[string]string {
	return map[string]string{
		"help": "keys", "look": "themes", "undo": "masks undo", "redo": "masks redo", "jobs": "status", "messages": "messages", "model": "info",

		"search.toggle": "search", "search.start": "search", "search.stop": "search stop", "search.target": "search retarget", "search.inject": "search inject", "search.prompt": "search prompt",
		"search.workers": "search status", "search.drain": "search drain",
		"search.chat": "chat --subnet", "search.edit": "masks checkout --subnet", "search.adopt": "search adopt", "search.details": "search front",
		"search.cut": "cut", "search.reform": "reform --subnet", "search.bench": "bench --subnets", "search.gather": "statistics", "search.list": "search front",
		"search.copy": "masks show --subnet",

		"masks.toggle": "masks set --drop", "masks.shrink": "masks set --keep-channels", "masks.grow": "masks set --keep-channels", "masks.save": "masks set --save",
		"masks.top": "masks set --keep-groups", "masks.drop": "masks set --mlp", "masks.droplayer": "masks set --drop", "masks.restore": "masks set --restore",
		"masks.invert": "masks set --invert", "masks.like": "masks set --copy-from", "masks.equalise": "masks set --equalise", "masks.open": "masks checkout --subnet",
		"masks.diff": "masks diff --with", "masks.measure": "subnets measure", "masks.chat": "chat --subnet", "masks.reform": "reform --subnet",
		"masks.vocab": "vocab --subnet", "masks.steps": "masks steps", "masks.copy": "masks show --subnet",

		"reform.start": "reform", "reform.tune": "tune", "reform.subnet": "reform --subnet", "reform.cut": "cut", "reform.stop": "stop", "reform.chat": "chat --subnet",
		"reform.bench": "bench --subnets", "reform.edit": "masks checkout --subnet", "reform.export": "subnets export",

		"chat.write": "chats say", "chat.stop": "chats stop", "chat.again": "chats again", "chat.edit": "chats edit", "chat.new": "chats new --subnets",
		"chat.probe": "probe", "chat.differences": "chats show", "chat.list": "chats list", "chat.columns": "chats columns", "chat.add": "chats columns", "chat.remove": "chats columns",
		"chat.blind": "chats set --blind", "chat.voteleft": "chats vote", "chat.voteright": "chats vote", "chat.system": "chats set --system",
		"chat.sampling": "chats set --temperature --gpu", "chat.rename": "chats rename", "chat.delete": "chats delete", "chat.export": "chats export", "chat.copy": "chats show",

		"bench.start": "bench", "bench.stop": "stop", "bench.list": "benches list", "bench.export": "benches export --format", "bench.copy": "benches export",
		"bench.chat": "chat --subnet",

		"library.details": "subnets list", "library.chat": "chat --subnet", "library.edit": "masks checkout --subnet", "library.export": "subnets export --as",
		"library.compare": "masks diff --with", "library.bench": "bench --subnets", "library.reform": "reform --subnet", "library.quantize": "quantize --target", "library.measure": "subnets measure",
		"library.measureon": "subnets measure --text", "library.rename": "subnets rename", "library.note": "subnets note", "library.duplicate": "subnets duplicate",
		"library.delete": "subnets delete", "library.empty": "subnets empty-trash", "library.import": "subnets import", "library.fit": "fit --memory",
		"library.inject": "search inject", "library.copy": "masks show --subnet",
	}
}
