package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// shells lists the shells that there are completion scripts for.
func shells() []string { return []string{"bash", "zsh", "fish", "powershell"} }

func (a *app) completionCommand() *cobra.Command {
	var plain bool
	cmd := &cobra.Command{
		Use:   "completion SHELL",
		Short: "Write the completion script of a shell",
		Long: "SHELL is bash, zsh, fish or powershell. With the script the Tab key completes commands, flags and their values: subnets,\n" +
			"chats, benchmarks and running jobs of the workspace, layers, methods, strategies and their settings, types, texts, targets, models\n" +
			"and files by their endings. Ids come with the name and the size of what they stand for.\n\n" +
			"Completion opens the workspace of MODEL read-only, or that of the default model where MODEL comes later on the line. It changes\n" +
			"nothing and does not use the network: of repositories on the hub it lists those in the cache.",
		Example: "  # bash, for this session; for all, the same line in ~/.bashrc\n  source <(lathe completion bash)\n" +
			"  # zsh, in a folder of $fpath\n  lathe completion zsh > \"${fpath[1]}/_lathe\"\n" +
			"  # fish\n  lathe completion fish > ~/.config/fish/completions/lathe.fish",
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usage(errors.New("the name of a shell is missing: " + strings.Join(shells(), ", ")))
			case len(args) > 1:
				return usage(fmt.Errorf("one SHELL, not %d: %s", len(args), strings.Join(args, " ")))
			case !slices.Contains(shells(), args[0]):
				return usage(fmt.Errorf("unknown shell %q%s", args[0], orNearest(args[0], shells())))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return completionScript(a.stdout, cmd.Root(), args[0], !plain)
		},
	}
	cmd.Flags().BoolVar(&plain, "no-descriptions", false, "complete without descriptions")
	return cmd
}

// completionScript writes the completion script of a shell.
func completionScript(w io.Writer, root *cobra.Command, shell string, described bool) error {
	switch shell {
	case "bash":
		if _, err := io.WriteString(w, bashFunctions); err != nil {
			return err
		}
		return root.GenBashCompletionV2(w, described)
	case "zsh":
		if described {
			return root.GenZshCompletion(w)
		}
		return root.GenZshCompletionNoDesc(w)
	case "fish":
		return root.GenFishCompletion(w, described)
	}
	if described {
		return root.GenPowerShellCompletionWithDesc(w)
	}
	return root.GenPowerShellCompletion(w)
}

// bashFunctions defines the two functions of the bash-completion package that the script uses, where that is not installed.
const bashFunctions = `# Two functions of the bash-completion package, for systems without it.
if ! declare -F _get_comp_words_by_ref >/dev/null 2>&1; then
_get_comp_words_by_ref()
{
    # Sets cur, prev, words and cword, with the words that bash splits at = and : joined again.
    local rest=$COMP_LINE i word gap last=""
    words=() cword=0
    for i in "${!COMP_WORDS[@]}"; do
        word=${COMP_WORDS[i]}
        gap=${rest%%[! ]*}
        rest=${rest#"$gap"}
        rest=${rest#"$word"}
        if [[ $i -gt 0 && -z $gap && ( $word == [=:]* || $last == *[=:] ) ]]; then
            words[${#words[@]}-1]+=$word
        else
            words+=("$word")
        fi
        last=$word
        if [[ $i -eq $COMP_CWORD ]]; then
            cword=$(( ${#words[@]} - 1 ))
        fi
    done
    cur=${words[cword]}
    prev=""
    if [[ $cword -gt 0 ]]; then
        prev=${words[cword-1]}
    fi
}
fi
if ! declare -F _filedir >/dev/null 2>&1; then
_filedir()
{
    local ending found=() IFS=$'\n'
    compopt -o filenames 2>/dev/null
    if [[ $1 == -d ]]; then
        found=($(compgen -d -- "$cur"))
    elif [[ -n $1 ]]; then
        IFS='|'
        for ending in $1; do
            IFS=$'\n'
            found+=($(compgen -f -X "!*.$ending" -- "$cur"))
        done
        found+=($(compgen -d -- "$cur"))
    else
        found=($(compgen -f -- "$cur"))
    fi
    COMPREPLY+=("${found[@]}")
}
fi

`
