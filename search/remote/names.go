package remote

// The subjects and streams of a search, as the package documentation lists them.

func announceSubject(search string) string    { return "lathe.search." + search }
func taskSubject(search string) string        { return "lathe." + search + ".task" }
func resultSubject(search, key string) string { return "lathe." + search + ".result." + key }
func failedSubject(search string) string      { return "lathe." + search + ".failed" }
func statusSubject(search, id string) string  { return "lathe." + search + ".status." + id }
func drainSubject(search, id string) string   { return "lathe." + search + ".drain." + id }
func fileSubject(search string) string        { return "lathe." + search + ".file" }
func productSubject(search string) string     { return "lathe." + search + ".product" }
func tasksName(search string) string          { return "lathe-" + search + "-tasks" }
func resultsName(search string) string        { return "lathe-" + search + "-results" }
func bucketName(search string) string         { return "lathe-" + search }
func deadSubject(search string) string {
	return "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES." + tasksName(search) + "." + consumerName
}

// consumerName is the durable consumer that all workers share.
const consumerName = "workers"
