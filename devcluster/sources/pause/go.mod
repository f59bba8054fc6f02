module skerry.dev/devcluster/pause

go 1.26
