// Package pipeline runs an anytime search from calibration text to a re-fitted
// subnet. [Run] does, in this order:
//
//  1. plan how the text and the time are used ([NewPlan]);
//  2. make levels, or open those that an earlier run left in the folder, and
//     predict the loss of each;
//  3. search ([search.Job]) on text that the levels were not fitted to;
//  4. compare the best subnet with a one-shot allocation, both re-fitted as a
//     whole;
//  5. choose the units of the better one again, re-fit it layer by layer on as
//     much text as the time allows.
//
// The plan is a pure function of the time limit, of the pace at which levels were
// made and of the amount of text, so that the policy can be tested without a
// model. The run revises it when it knows more.
//
// The folder of a run holds the levels, the checkpoint of the search and how much
// text it uses; with [Request.Resume] a run continues from there.
//
// Errors about the request itself are a [RequestError].
package pipeline
