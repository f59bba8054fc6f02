"""`python -m skerry.optimizer`. Nothing is imported here, because every child process imports this module again."""

if __name__ == "__main__":
    from skerry.optimizer.job import main

    raise SystemExit(main())
