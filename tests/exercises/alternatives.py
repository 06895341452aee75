"""Right answers, written differently from the master notebooks' and from each other."""

ALTERNATIVES = {
    "to_model_range": [
        """
def to_model_range(pixels):
    return 2 * (pixels.float() / 255 - 0.5).unsqueeze(1)
""",
        """
def to_model_range(pixels):
    n, h, w = pixels.shape
    return torch.lerp(torch.tensor(-1.0), torch.tensor(1.0), pixels / 255).reshape(n, 1, h, w)
""",
    ],
    "alpha_bar_at": [
        """
def alpha_bar_at(alpha, t):
    return torch.cumprod(alpha, 0)[t]
""",
        """
def alpha_bar_at(alpha, t):
    product = 1.0
    for s in range(1, t + 2):  # the paper's s
        product = product * alpha[s - 1]
    return product
""",
    ],
    "clt_normal": [
        """
def clt_normal(draws, mean, std):
    return ((draws - mean) / std).sum(dim=1) / draws.shape[1] ** 0.5
""",
        """
def clt_normal(draws, mean, std):
    rows = []
    for row in draws:
        rows.append(math.sqrt(len(row)) * (sum(row) / len(row) - mean) / std)
    return torch.stack(rows)
""",
    ],
    "gamma_pdf": [
        """
def gamma_pdf(x, alpha, beta):
    return torch.exp(alpha * math.log(beta) + (alpha - 1) * x.log() - beta * x - math.lgamma(alpha))
""",
        """
def gamma_pdf(x, alpha, beta):
    return torch.distributions.Gamma(torch.tensor(alpha).double(), beta).log_prob(x).exp()
""",
    ],
    "skew_of_mean": [
        """
def skew_of_mean():
    third_moment, spread = 2 / 30**2, 30**-0.5
    return third_moment / spread**3
""",
        """
def skew_of_mean():
    return 0.365
""",
    ],
    "reparametrise": [
        """
def reparametrise(mu, logvar, noise):
    return torch.addcmul(mu, logvar.exp().sqrt(), noise)
""",
        """
def reparametrise(mu, logvar, noise):
    columns = []
    for j in range(mu.shape[1]):
        columns.append(mu[:, j] + math.e ** (logvar[:, j] / 2) * noise[:, j])
    return torch.stack(columns, dim=1)
""",
    ],
    "kl_standard_normal": [
        """
def kl_standard_normal(mu, logvar):
    return -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp(), dim=1)
""",
        """
def kl_standard_normal(mu, logvar):
    from torch.distributions import Normal, kl_divergence

    q = Normal(mu, torch.exp(logvar / 2))
    return kl_divergence(q, Normal(0.0, 1.0)).sum(-1)
""",
    ],
    "referee_kl": [
        """
def referee_kl(formula):
    mu, logvar = torch.meshgrid(torch.linspace(-2, 2, 9), torch.linspace(-2, 2, 9), indexing="ij")
    mu, logvar = torch.stack([mu, mu + 1], -1), torch.stack([logvar, 0.5 * logvar], -1)
    want = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(-1)
    return bool((formula(mu, logvar) - want).abs().max() < 1e-4)
""",
        """
def referee_kl(formula):
    # Monte Carlo, without knowing the formula.
    generator = torch.Generator().manual_seed(0)
    mu = torch.tensor([[1.5, -0.3], [-0.8, 0.2]]).double()
    logvar = torch.tensor([[0.0, -1.0], [1.0, 0.3]]).double()
    found = formula(mu, logvar)
    for row in range(2):
        noise = torch.randn(400_000, 2, generator=generator).double()
        z = mu[row] + (logvar[row] / 2).exp() * noise
        estimate = 0.5 * (z**2 - noise**2 - logvar[row]).sum(-1)
        error = estimate.std() / len(z) ** 0.5
        if abs(estimate.mean() - found[row]) > 5 * error:
            return False
    return True
""",
    ],
    "elbo": [
        """
def elbo(x, x_mean, mu, logvar, variance):
    from torch.distributions import Normal, kl_divergence

    log_likelihood = Normal(x_mean, variance**0.5).log_prob(x).sum(1)
    q = Normal(mu, (logvar / 2).exp())
    return log_likelihood - kl_divergence(q, Normal(0.0, 1.0)).sum(1)
""",
        """
def elbo(x, x_mean, mu, logvar, variance):
    terms = (x - x_mean) ** 2 / variance + math.log(2 * math.pi * variance)
    return -(terms.sum(-1) + (mu**2 + logvar.exp() - 1 - logvar).sum(-1)) / 2
""",
    ],
    "log_mean_exp": [
        """
def log_mean_exp(log_weights):
    largest = log_weights.max(0).values
    return largest + (log_weights - largest).exp().mean(0).log()
""",
        """
def log_mean_exp(log_weights):
    total = log_weights[0]
    for row in log_weights[1:]:
        total = torch.logaddexp(total, row)
    return total - math.log(log_weights.shape[0])
""",
    ],
    "active_dimensions": [
        """
def active_dimensions(mu, threshold):
    return (mu - mu.mean(0)).square().mean(0) > threshold
""",
        """
def active_dimensions(mu, threshold):
    return torch.diagonal(torch.cov(mu.T)) > threshold
""",
    ],
    "catches_bug": [
        """
def catches_bug(sample):
    noise = torch.randn(50_000, 1, generator=torch.Generator().manual_seed(1))
    for logvar in (-1.4, 0.7):
        z = sample(torch.full_like(noise, 2.0), torch.full_like(noise, logvar), noise)
        if abs(z.mean() - 2) > 0.03 or abs(z.var() / math.exp(logvar) - 1) > 0.05:
            return True
    return False
""",
        """
def catches_bug(sample):
    # The distance from the mean, in standard deviations, must be standard normal: all quantiles.
    noise = torch.randn(200_000, 1, generator=torch.Generator().manual_seed(2))
    mu = torch.full_like(noise, -0.5)
    logvar = torch.where(torch.arange(len(noise))[:, None] % 2 == 0, 0.8, -1.1)
    white = (sample(mu, logvar, noise) - mu) / (logvar / 2).exp()
    levels = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])
    want = math.sqrt(2) * torch.erfinv(2 * levels - 1)
    halves = torch.stack([white[::2, 0].quantile(levels), white[1::2, 0].quantile(levels)])
    return bool((halves - want).abs().max() > 0.03)
""",
    ],
}
