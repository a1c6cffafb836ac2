// Command lathe searches a trained language model for a smaller subnet and runs what it finds.
package main

func main() {}
