package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/lathe-llm/lathe/explorer/format"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/gguf"
)

func (a *app) recipeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "recipe", Short: "Export and rebuild a subnet as a small file: masks, settings and hashes instead of weights", Args: cobra.NoArgs, RunE: needsSubcommand}
	cmd.AddCommand(a.recipeExportCommand(), a.recipeBuildCommand())
	return cmd
}

func (a *app) recipeExportCommand() *cobra.Command {
	var c explorer.ExportRecipe
	var force bool
	cmd := &cobra.Command{
		Use:     "export SUBNET [MODEL]",
		Short:   "Write the recipe of a subnet",
		Example: "  lathe recipe export s3 -o s3.recipe.json",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args[1:])
			if err != nil {
				return err
			}
			if c.Path == "" {
				return usage(errors.New("-o FILE is missing"))
			}
			out := outFlags{path: c.Path, typ: c.Type, force: force}
			c.Replace = force
			if err := out.check(); err != nil {
				return err
			}
			return a.with(cmd.Context(), model, readOnly, func(e exploration) error {
				if c.Subnet, err = find(e.Snapshot(), args[0]); err != nil {
					return err
				}
				job, err := a.start(cmd.Context(), e, c)
				if err != nil {
					return err
				}
				r := struct {
					Recipe string `json:"recipe"`
					Subnet string `json:"subnet"`
				}{job.Output, string(c.Subnet)}
				return a.result(r, func(w io.Writer) { fmt.Fprintf(w, "%s: recipe of %s\n", r.Recipe, args[0]) })
			})
		},
	}
	cmd.Flags().StringVarP(&c.Path, "output", "o", "", "file to write")
	cmd.Flags().StringVar(&c.Type, "type", "", "tensor type of the GGUF file that the recipe builds (default: the source's)")
	choices(cmd.Flags(), "type", gguf.WritableNames()...)
	cmd.Flags().BoolVar(&force, "force", false, "replace an existing file")
	return cmd
}

func (a *app) recipeBuildCommand() *cobra.Command {
	var (
		c     explorer.BuildRecipe
		texts explorer.Calibration
		out   outFlags
	)
	cmd := &cobra.Command{
		Use:   "build RECIPE [MODEL]",
		Short: "Build the subnet and the file of a recipe",
		Long: "Checks the hashes of the model and of the calibration texts against the recipe's and re-fits the weights. If the subnet of the\n" +
			"recipe was tuned, it tunes them for as many steps as led to the best state. On the same device the file is byte for byte the one\n" +
			"whose hash the recipe has; the command reports whether it is. The file has no provenance (name, origin, method, time), which\n" +
			"`subnets export` writes, so the metadata of the two files differ.",
		Example: "  lathe recipe build s3.recipe.json model.gguf -o small.gguf",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args[1:])
			if err != nil {
				return err
			}
			if err := out.check(); err != nil {
				return err
			}
			c.Path, c.To, c.Replace, c.Text, c.Mix = args[0], out.path, out.force, texts.Text, texts.Mix
			return a.with(cmd.Context(), model, out.storage(), func(e exploration) error {
				began := time.Now()
				job, err := a.start(cmd.Context(), e, c)
				if err != nil {
					return err
				}
				n, err := madeBy(e.Snapshot(), job)
				if err != nil {
					return err
				}
				r := struct {
					Recipe  string       `json:"recipe"`
					Name    string       `json:"name"`
					Share   float64      `json:"share"`
					Export  *gguf.Report `json:"export,omitempty"`
					Seconds float64      `json:"seconds"`
				}{args[0], n.Name, n.Size.Ratio, job.Report, time.Since(began).Seconds()}
				return a.result(r, func(w io.Writer) {
					fmt.Fprintf(w, "%s: %.3f of the block parameters\n", n.Name, r.Share)
					if r.Export != nil {
						fmt.Fprintf(w, "%s: %s\n", r.Export.Path, format.Bytes(r.Export.Bytes))
					}
				})
			})
		},
	}
	cmd.Flags().Var(&calibrationText{c: &texts}, "text", "calibration text of the re-fit and of tuning, if it is not at the path in the recipe; of a mix NAME=PATH, several times")
	cmd.Flags().StringVarP(&out.path, "output", "o", "", "file to write, GGUF (default: only add the subnet to the workspace)")
	cmd.Flags().BoolVar(&out.force, "force", false, "replace an existing file")
	return cmd
}
